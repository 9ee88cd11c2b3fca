package failover

// Standing is how a data directory that calls itself by a watcher's name stands with the cluster.
type Standing string

// The standings.
const (
	StandingUnknown Standing = ""        // this state does not know: it has no first entry yet
	StandingMember  Standing = "member"  // it is that watcher, voting or joining
	StandingWanted  Standing = "wanted"  // the watcher is to join, and no data directory has its name yet
	StandingOther   Standing = "other"   // the watcher has another data directory
	StandingRemoved Standing = "removed" // it was removed; it never takes part again
	StandingNone    Standing = "none"    // no watcher has that name
	StandingOld     Standing = "old"     // it is an old copy: another process has gone on with that watcher since
)

// Life names one process's use of a data directory: how often the directory had been opened, and a random word.
type Life struct {
	Boot uint64 `json:"boot,omitempty"`
	Word string `json:"life,omitempty"`
}

// Standing judges a data directory by its id and by the life of the process that uses it. What it says of a removed or
// an old directory stays true for ever, so any watcher's word on that is enough, however far behind it is.
func (s *State) Standing(name, node string, life Life) Standing {
	if s.Cluster == "" {
		return StandingUnknown
	}
	m := s.Member(name)
	switch {
	case node != "" && s.wasRemoved("", node) != nil:
		return StandingRemoved
	case m == nil && s.wasRemoved(name, node) != nil:
		return StandingRemoved
	case m == nil:
		return StandingNone
	case m.Node == "" && m.Joining:
		return StandingWanted
	case m.Node != "" && node != "" && m.Node != node:
		return StandingOther
	case m.outlived(life):
		return StandingOld
	}
	return StandingMember
}

// outlived reports whether the watcher has told of a later use of its data directory than life, or of another one with
// the same number.
func (m *Member) outlived(life Life) bool {
	if life.Boot == 0 || m.About.Life == "" {
		return false
	}
	return life.Boot < m.About.Boot || life.Boot == m.About.Boot && life.Word != m.About.Life
}
