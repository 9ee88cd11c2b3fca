package failover

import "fmt"

// memberVerbs adds the commands about the members.
func memberVerbs() {
	// add NAME ADDRESS [dns=192.0.2.4]: a watcher is to join, or moves.
	verbs["add"] = func(s *script, a *args, r *Result) string {
		*r = s.apply(Command{By: a.get("by", "uid:1000"), AddMember: &AddMember{Name: a.word(0), Address: a.word(1), DNS: a.list("dns", nil)}})
		return ""
	}
	// join NAME NODE: a data directory wants to be that watcher's.
	verbs["join"] = func(s *script, a *args, r *Result) string {
		*r = s.apply(Command{By: "watcher:" + a.word(0), JoinMember: &JoinMember{Name: a.word(0), Node: a.word(1)}})
		return ""
	}
	// admit NAME [fresh=w1,w2]: raft has it as a voter.
	verbs["admit"] = func(s *script, a *args, r *Result) string {
		s.fresh = a.list("fresh", s.fresh)
		*r = s.apply(Command{By: "watcher:w1", AdmitMember: &MemberOrder{Name: a.word(0)}})
		return ""
	}
	// remove NAME.
	verbs["remove"] = func(s *script, a *args, r *Result) string {
		*r = s.apply(Command{By: a.get("by", "uid:1000"), RemoveMember: &MemberOrder{Name: a.word(0)}})
		return ""
	}
	// settle: raft's configuration has followed the change that is under way.
	verbs["settle"] = func(s *script, a *args, r *Result) string {
		change := uint64(a.number("change", 0))
		if s.s.Change != nil && change == 0 {
			change = s.s.Change.Index
		}
		*r = s.apply(Command{By: "watcher:w1", SettleMembers: &Settle{Change: change}})
		return ""
	}
	// transfer [NAME].
	verbs["transfer"] = func(s *script, a *args, r *Result) string {
		*r = s.apply(Command{By: "uid:1000", Transfer: &MemberOrder{Name: a.word(0)}})
		return ""
	}
	// members: all of them, as the state has them, and how many decide.
	verbs["members"] = func(s *script, _ *args, _ *Result) string {
		text := ""
		for _, m := range s.s.Members {
			text += fmt.Sprintf("%s at %s %v", m.Name, m.Address, m.DNS)
			if m.Node != "" {
				text += " directory " + m.Node
			}
			if m.Joining {
				text += ", joining"
			}
			text += "\n"
		}
		if c := s.s.Change; c != nil {
			text += fmt.Sprintf("%s of %s is under way\n", c.Kind, c.Name)
		}
		return text + fmt.Sprintf("%d decide, heard %v, serial %d", s.s.Majority(), s.s.Fresh, s.s.Serial)
	}
	// standing NAME NODE [boot=N life=WORD]: how a data directory stands.
	verbs["standing"] = func(s *script, a *args, _ *Result) string {
		life := Life{Boot: uint64(a.number("boot", 0)), Word: a.get("life", "")}
		return "standing: " + orElse(string(s.s.Standing(a.word(0), a.word(1), life)), "unknown")
	}
	// lives NAME boot=N life=WORD node=ID: a watcher tells of its process and its data directory.
	verbs["lives"] = func(s *script, a *args, r *Result) string {
		s.seq++
		*r = s.apply(Command{Reports: &Reports{About: map[string]About{
			a.word(0): {Boot: uint64(a.number("boot", 1)), Seq: s.seq, Life: a.get("life", ""), Node: a.get("node", "")},
		}}})
		return ""
	}
}
