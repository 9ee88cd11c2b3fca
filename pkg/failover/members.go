package failover

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Limits on members.
const (
	maxMembers     = 15 // every entry of the log is replicated to each; three or five are what is meant
	maxMemberDNS   = 16 // addresses of one watcher's NS record
	maxMemberLabel = 63 // bytes of a name, which is a DNS label (RFC 1035, section 2.3.4)
	removedKept    = 64 // removed watchers that are remembered, so that their data directories are told so
)

// Rules that refuse a change of the members.
const (
	RuleMemberChange = "member_change"  // another change is under way
	RuleLastWatcher  = "last_watcher"   // nobody would be left
	RuleTooFewHeard  = "too_few_heard"  // the rest, as far as it is heard, would be no quorum
	RuleGroupQuorum  = "group_quorum"   // a group asks for more verdicts than there would be watchers
	RuleDirectory    = "data_directory" // another data directory has that name
	RuleJoining      = "joining"        // it does not vote yet
	RuleNotHeard     = "not_heard"      // the leader does not hear it
)

// ChangeKind is what a change of the members does.
type ChangeKind string

// The kinds of changes.
const (
	ChangeAdd    ChangeKind = "add"
	ChangeRemove ChangeKind = "remove"
	ChangeMove   ChangeKind = "move" // another address
)

// MemberChange is the one change of the members that is under way: the state has it, raft's configuration is being
// brought after it by the leader. A new leader goes on from the state; there is nothing else to recover.
type MemberChange struct {
	Index uint64     `json:"index"` // of the entry that began it
	Since time.Time  `json:"since"`
	Kind  ChangeKind `json:"kind"`
	Name  string     `json:"name"`
	By    string     `json:"by,omitempty"`
}

// Removed is a watcher that is a member no more. Its data directory never takes part again.
type Removed struct {
	Name    string    `json:"name"`
	Node    string    `json:"node,omitempty"` // id of its data directory; empty: it was never known
	Address string    `json:"address,omitempty"`
	Index   uint64    `json:"index"`
	Time    time.Time `json:"time"`
}

// AddMember makes a new watcher join, or gives a member another address. DNS left empty keeps a member's own.
type AddMember struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	DNS     []string `json:"dns,omitempty"`
}

// JoinMember binds a data directory to a joining watcher: from then on no other one can have its name.
type JoinMember struct {
	Name string `json:"name"`
	Node string `json:"node"`
}

// MemberOrder names a watcher.
type MemberOrder struct {
	Name string `json:"name,omitempty"`
}

// Settle says that raft's configuration is as the state wants it, as far as the change that began with this entry goes.
type Settle struct {
	Change uint64 `json:"change"`
}

// Voter reports whether the watcher counts: one that joins does not until it has caught up.
func (m *Member) Voter() bool { return !m.Joining }

// Member returns the watcher of that name, nil if it is none of the cluster's.
func (s *State) Member(name string) *Member {
	for i := range s.Members {
		if s.Members[i].Name == name {
			return &s.Members[i]
		}
	}
	return nil
}

// hasNode reports whether a data directory is some watcher's.
func (s *State) hasNode(node string) bool {
	return node != "" && slices.ContainsFunc(s.Members, func(m Member) bool { return m.Node == node })
}

// Voters is the number of watchers that count.
func (s *State) Voters() int {
	n := 0
	for i := range s.Members {
		if s.Members[i].Voter() {
			n++
		}
	}
	return n
}

// Majority is the smallest number of watchers that is more than half of those that count.
func (s *State) Majority() int { return Majority(s.Voters()) }

// addMember puts a new watcher into the state as joining, or changes a member's address. Both are carried out by the
// leader afterwards.
func (s *State) addMember(c *AddMember, by string) Result {
	if err := checkAddMember(c); err != nil {
		return refuse(CodeInvalid, "", "%v", err)
	}
	for _, m := range s.Members {
		if m.Name != c.Name && m.Address == c.Address {
			return refuse(CodeInvalid, "", "%s is the address of watcher %s already", c.Address, m.Name)
		}
	}
	if m := s.Member(c.Name); m != nil {
		return s.moveMember(m, c, by)
	}
	if len(c.DNS) == 0 {
		return refuse(CodeInvalid, "", "watcher %s needs an address for its NS record", c.Name).hint("--dns IP gives it")
	}
	if len(s.Members) >= maxMembers {
		return refuse(CodeRefused, "too_many_watchers", "there are %d watchers, at most %d are allowed", len(s.Members), maxMembers)
	}
	for i := range s.Policy.Groups {
		if g := &s.Policy.Groups[i]; g.Record == c.Name {
			return refuse(CodeInvalid, "", "group %s has the record %s; two cannot share a name", g.Name, c.Name)
		}
	}
	if r := s.mayChangeMembers(); !r.Accepted {
		return r
	}
	s.Members = append(s.Members, Member{Name: c.Name, Address: c.Address, DNS: slices.Clone(c.DNS), Joining: true})
	sort.Slice(s.Members, func(i, j int) bool { return s.Members[i].Name < s.Members[j].Name })
	s.beginChange(ChangeAdd, c.Name, by)
	s.event("member_joining", "", "", fmt.Sprintf("watcher %s at %s joins; it does not count before it has caught up", c.Name, c.Address),
		map[string]string{"watcher": c.Name, "by": by})
	return Result{Accepted: true}
}

// moveMember changes a member's addresses. It takes effect at the others at once and at the watcher itself when it is
// started again, so without it the rest must be a quorum.
func (s *State) moveMember(m *Member, c *AddMember, by string) Result {
	dns := c.DNS
	if len(dns) == 0 {
		dns = m.DNS
	}
	if m.Address == c.Address && slices.Equal(m.DNS, dns) {
		return Result{Accepted: true, Note: fmt.Sprintf("%s is a watcher already, nothing is changed; if its data directory was lost, remove it first", m.Name)}
	}
	correcting := s.Change != nil && s.Change.Kind == ChangeAdd && s.Change.Name == m.Name
	if r := s.mayChangeMembers(); !r.Accepted && !correcting {
		return r
	}
	moves := m.Address != c.Address
	if moves && m.Voter() {
		if heard, needed := s.heardBut(m.Name), s.Majority(); heard < needed {
			return refuse(CodeRefused, RuleTooFewHeard, "%s is not reached until it runs at its new address, and without it %d watchers are heard, %d are needed", m.Name, heard, needed)
		}
	}
	if m.Voter() && !slices.Equal(m.DNS, dns) {
		s.bumpSerial()
	}
	m.Address, m.DNS = c.Address, slices.Clone(dns)
	if !moves {
		s.event("member_moved", "", "", fmt.Sprintf("the name server of watcher %s is at %s now", m.Name, strings.Join(dns, ", ")), map[string]string{"watcher": m.Name, "by": by})
		return Result{Accepted: true, Note: "the name server of watcher " + m.Name + " is at " + strings.Join(dns, ", ") + " now"}
	}
	if m.Voter() {
		s.beginChange(ChangeMove, m.Name, by)
	}
	s.event("member_moved", "", "", fmt.Sprintf("watcher %s is at %s now", m.Name, m.Address), map[string]string{"watcher": m.Name, "by": by})
	return Result{Accepted: true, Note: fmt.Sprintf("watcher %s is at %s for the others now; start it there with that address", m.Name, m.Address)}
}

// joinMember binds the data directory that a joining watcher was started with.
func (s *State) joinMember(c *JoinMember) Result {
	m := s.Member(c.Name)
	switch {
	case c.Node == "" || len(c.Node) > maxText:
		return refuse(CodeInvalid, "", "watcher %s has a data directory without a usable id", c.Name)
	case m == nil:
		return refuse(CodeNotFound, "", "%s is no watcher of this cluster", c.Name)
	case m.Node == c.Node:
		return Result{Accepted: true}
	case m.Node != "" || m.Voter() || s.hasNode(c.Node):
		return refuse(CodeRefused, RuleDirectory, "watcher %s has another data directory", c.Name)
	case s.wasRemoved("", c.Node) != nil:
		return refuse(CodeRefused, RuleDirectory, "the data directory was removed from the cluster")
	}
	m.Node = c.Node
	s.event("member_started", "", "", fmt.Sprintf("watcher %s was started and catches up", c.Name), map[string]string{"watcher": c.Name})
	return Result{Accepted: true}
}

// admitMember makes a joining watcher count. The leader says so when it is a voter for raft.
func (s *State) admitMember(c *MemberOrder, fresh []string) Result {
	m := s.Member(c.Name)
	if m == nil {
		return refuse(CodeNotFound, "", "%s is no watcher of this cluster", c.Name)
	}
	if m.Voter() {
		return Result{Accepted: true}
	}
	if m.Node == "" {
		return refuse(CodeRefused, RuleJoining, "watcher %s was not started yet", c.Name)
	}
	m.Joining = false
	if s.Change != nil && s.Change.Name == c.Name {
		s.Change = nil
	}
	s.hear(fresh)
	s.refreshHealth()
	s.bumpSerial()
	s.event("member_added", "", "", fmt.Sprintf("watcher %s counts from now on: %d watchers, %d are a quorum", c.Name, s.Voters(), s.Majority()),
		map[string]string{"watcher": c.Name})
	return Result{Accepted: true}
}

// removeMember takes a watcher out of the state, with all that it said. One that only joins may always go.
func (s *State) removeMember(c *MemberOrder, by string) Result {
	m := s.Member(c.Name)
	if m == nil {
		return refuse(CodeNotFound, "", "there is no watcher %q", c.Name).hint("`watchover members list` shows them")
	}
	takesBack := m.Joining && s.Change != nil && s.Change.Kind == ChangeAdd && s.Change.Name == m.Name
	if !takesBack {
		if r := s.mayChangeMembers(); !r.Accepted {
			return r
		}
	}
	if m.Voter() {
		if r := s.mayLose(m); !r.Accepted {
			return r
		}
		s.bumpSerial()
	}
	if m.Voter() || m.Node != "" { // else nothing was ever started under that name
		s.Removed = appendBounded(s.Removed, removedKept, Removed{Name: m.Name, Node: m.Node, Address: m.Address, Index: s.Index, Time: s.Time})
	}
	s.Members = slices.DeleteFunc(s.Members, func(other Member) bool { return other.Name == c.Name })
	s.Fresh = slices.DeleteFunc(slices.Clone(s.Fresh), func(name string) bool { return name == c.Name })
	for _, g := range s.Groups {
		for _, a := range g.Apps {
			delete(a.Reports, c.Name)
		}
	}
	s.refreshHealth()
	s.beginChange(ChangeRemove, c.Name, by)
	s.event("member_removed", "", "", fmt.Sprintf("watcher %s is removed: %d watchers, %d are a quorum", c.Name, s.Voters(), s.Majority()),
		map[string]string{"watcher": c.Name, "by": by})
	return Result{Accepted: true}
}

// mayLose judges whether the cluster can do without a voter.
func (s *State) mayLose(m *Member) Result {
	rest := s.Voters() - 1
	if rest == 0 {
		return refuse(CodeRefused, RuleLastWatcher, "%s is the last watcher", m.Name)
	}
	if heard, needed := s.heardBut(m.Name), Majority(rest); heard < needed {
		return refuse(CodeRefused, RuleTooFewHeard, "%d of the %d watchers that would remain are heard, %d are needed", heard, rest, needed).
			hint("start the silent watchers, or remove one of those instead")
	}
	for i := range s.Policy.Groups {
		if g := &s.Policy.Groups[i]; g.Failover.Quorum > rest {
			return refuse(CodeRefused, RuleGroupQuorum, "group %s asks for %d verdicts, %d watchers would remain", g.Name, g.Failover.Quorum, rest).
				hint("lower groups." + g.Name + ".failover.quorum first, or add another watcher before")
		}
	}
	return Result{Accepted: true}
}

// settle ends the change that raft's configuration has caught up with.
func (s *State) settleMembers(c *Settle) Result {
	if s.Change == nil || s.Change.Index != c.Change || s.Change.Kind == ChangeAdd {
		return Result{Accepted: true, Note: "no such change is under way"}
	}
	s.event("members_settled", "", "", fmt.Sprintf("the change of watcher %s is complete", s.Change.Name), map[string]string{"watcher": s.Change.Name})
	s.Change = nil
	return Result{Accepted: true}
}

// transfer judges and records an order to hand leadership over; the leader does it when it sees the answer.
func (s *State) transfer(c *MemberOrder, by string) Result {
	to := "another watcher"
	if c.Name != "" {
		m := s.Member(c.Name)
		switch {
		case m == nil:
			return refuse(CodeNotFound, "", "there is no watcher %q", c.Name).hint("`watchover members list` shows them")
		case !m.Voter():
			return refuse(CodeRefused, RuleJoining, "watcher %s has not caught up yet", c.Name)
		case !s.IsFresh(c.Name):
			return refuse(CodeRefused, RuleNotHeard, "the leader does not hear watcher %s", c.Name)
		}
		to = c.Name
	}
	s.event("transfer", "", "", "leadership is to be handed to "+to, map[string]string{"by": by})
	return Result{Accepted: true}
}

// mayChangeMembers refuses while a switchover is open or another change is under way.
func (s *State) mayChangeMembers() Result {
	for _, name := range s.GroupNames() {
		if w := s.Groups[name].Switchover; w.Open() {
			return refuse(CodeRefused, BlockOpen, "switchover %d of %s is open", w.ID, name).
				hint("`watchover status " + name + " --watch` shows when it has ended")
		}
	}
	if c := s.Change; c != nil {
		text := fmt.Sprintf("the change of watcher %s (%s) is not complete", c.Name, c.Kind)
		hint := "`watchover members list` shows what it waits for"
		if c.Kind == ChangeAdd {
			hint += "; `watchover members remove " + c.Name + "` takes it back"
		}
		return refuse(CodeRefused, RuleMemberChange, "%s", text).hint(hint)
	}
	return Result{Accepted: true}
}

func (s *State) beginChange(kind ChangeKind, name, by string) {
	s.Change = &MemberChange{Index: s.Index, Since: s.Time, Kind: kind, Name: name, By: by}
}

// heardBut counts the watchers that are heard, one left out.
func (s *State) heardBut(name string) int {
	n := 0
	for _, fresh := range s.Fresh {
		if fresh != name {
			n++
		}
	}
	return n
}

// wasRemoved is how a data directory left the cluster, nil if it did not. A removal from before the directory's id was
// known is found by the name.
func (s *State) wasRemoved(name, node string) *Removed {
	for i := len(s.Removed) - 1; i >= 0; i-- {
		if r := &s.Removed[i]; r.Node != "" && r.Node == node || r.Node == "" && r.Name == name {
			return r
		}
	}
	return nil
}

func checkAddMember(c *AddMember) error {
	if err := checkMemberName(c.Name); err != nil {
		return err
	}
	if err := checkMemberAddress(c.Address); err != nil {
		return err
	}
	if len(c.DNS) > maxMemberDNS {
		return fmt.Errorf("watcher %s has %d addresses for its NS record, at most %d are allowed", c.Name, len(c.DNS), maxMemberDNS)
	}
	for i, text := range c.DNS {
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not an IP address", cut(text, maxMemberLabel))
		case ip.Zone() != "" || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast():
			return fmt.Errorf("%s is no address that an NS record's host can have", ip)
		case slices.Contains(c.DNS[:i], text):
			return fmt.Errorf("%s is given twice", ip)
		}
	}
	return nil
}

// checkMemberName holds a name to what a DNS label, a metric's label and a URL can carry, like the configuration does.
func checkMemberName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a watcher needs a name")
	case len(name) > maxMemberLabel:
		return fmt.Errorf("the watcher's name is longer than %d characters", maxMemberLabel)
	case strings.Trim(name, "-") != name:
		return fmt.Errorf("watcher name %q begins or ends with a hyphen", name)
	}
	for _, c := range name {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("%q is not a watcher's name; want lower-case letters, digits and hyphens", name)
		}
	}
	return nil
}

func checkMemberAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || len(address) > maxText {
		return fmt.Errorf("%q is not an address; want host:port", cut(address, maxMemberLabel))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not an address: %q is no port from 1 to 65535", address, cut(port, maxMemberLabel))
	}
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsUnspecified() || ip.IsMulticast()) {
		return fmt.Errorf("%q is not an address that others can reach", address)
	}
	return nil
}
