package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Recovery from a lost quorum. What one watcher still has becomes the beginning of a new history: its log is played to its
// end, committed or not, the state that comes out is changed by failover.State.Recover, and raft gets it as a snapshot
// whose configuration names only the watchers that are kept.
//
// With two kept watchers each makes its own snapshot from its own log, and the logs may end differently. Nothing can
// happen before both are there, since both are needed to elect a leader; raft elects the one whose log ends later, and it
// sends its snapshot to the other. Two that end alike are alike. So the result is one history whichever is started
// first; with three kept, two short ones could begin without the long one, hence two are the most.
//
// The plan is written before anything is changed and removed at the end. A watcher does not start in between, and the
// same command goes on where a crash stopped it.

// planFile holds a recovery that has been begun.
const planFile = "recovery.json"

// recoveryPlan is what a recovery is going to do.
type recoveryPlan struct {
	ID   string        `json:"id"`
	Keep []string      `json:"keep"`
	Open failover.Open `json:"open_switchovers,omitempty"`
}

// Survivor is the data directory of a watcher that is not running, and the state at the end of its log.
type Survivor struct {
	State *failover.State
	Last  Position

	n    *Node // as much of one as is needed; never run
	plan *recoveryPlan
}

// Position is the end of a log.
type Position struct {
	Index, Term uint64
	At          time.Time // when the leader of that time appended the entry; zero: not known
	Snapshot    uint64    // index of the newest snapshot; 0: there is none
}

// OpenSurvivor locks a data directory and reads it; nothing in it is changed. ErrInUse: a daemon runs on it. A directory
// that a recovery left behind is refused, unless leftBehind says that it is all there is.
func OpenSurvivor(name, cluster, dir string, leftBehind bool) (*Survivor, error) {
	n := &Node{o: Options{Name: name, Cluster: cluster, DataDir: dir}, log: zerolog.Nop(), limit: newLimiter(time.Second)}
	var err error
	if n.dir, err = openUsedDir(dir, name, cluster); err != nil {
		return nil, err
	}
	if err := n.openStores(); err != nil {
		n.dir.close()
		return nil, err
	}
	s := &Survivor{n: n}
	if err := s.read(leftBehind); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close gives the directory back.
func (s *Survivor) Close() {
	s.n.closeStores()
	s.n.dir.close()
}

func (s *Survivor) read(leftBehind bool) error {
	if b := s.n.dir.identity.Behind; b != nil && !leftBehind {
		return b.explain(s.n.o, s.n.dir.identity.Lineage)
	}
	if err := s.readPlan(); err != nil {
		return err
	}
	if err := s.readSnapshot(); err != nil {
		return err
	}
	return s.replay()
}

func (s *Survivor) readPlan() error {
	text, err := s.n.dir.read(planFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.plan = &recoveryPlan{}
	if err := json.Unmarshal(text, s.plan); err != nil {
		return fmt.Errorf("cannot read %q: %w", filepath.Join(s.n.dir.path, planFile), err)
	}
	return nil
}

// readSnapshot takes the newest snapshot, which openStores has found to be whole.
func (s *Survivor) readSnapshot() error {
	s.State = failover.NewState()
	list, err := s.n.snaps.List()
	if err != nil {
		return fmt.Errorf("cannot list snapshots: %w", err)
	}
	if len(list) > 0 {
		s.State = s.n.base
		s.Last = Position{Index: list[0].Index, Term: list[0].Term, Snapshot: list[0].Index, At: s.State.Time}
	}
	return nil
}

// replay applies the rest of the log, as fsm.Apply does.
func (s *Survivor) replay() error {
	first, err := s.n.store.FirstIndex()
	if err != nil {
		return fmt.Errorf("cannot look into the log: %w", err)
	}
	last, err := s.n.store.LastIndex()
	if err != nil {
		return fmt.Errorf("cannot look into the log: %w", err)
	}
	if last > s.Last.Index && first > s.Last.Index+1 {
		return fmt.Errorf("cannot read the log: it begins with entry %d and the newest snapshot ends with %d; what was between them is gone", first, s.Last.Index)
	}
	for index := s.Last.Index + 1; index <= last; index++ {
		var l raft.Log
		if err := s.n.store.GetLog(index, &l); err != nil {
			return fmt.Errorf("cannot read log entry %d: %w", index, err)
		}
		s.Last.Index, s.Last.Term, s.Last.At = l.Index, l.Term, l.AppendedAt
		if l.Type != raft.LogCommand {
			continue
		}
		if c, err := failover.DecodeCommand(l.Data); err == nil { // else it changes nothing on any watcher
			s.State, _ = s.State.Apply(failover.Entry{Index: l.Index, Term: l.Term, Command: c})
		}
	}
	return nil
}

// Prospect is what a recovery would make.
type Prospect struct {
	State *failover.State // to begin with
	Kept  []failover.Member
	Left  []failover.Member
	Done  bool // it has been made, and the watcher has not been started since
	plan  recoveryPlan
}

// Prospect works out what a recovery would make and changes nothing. Keep empty: this watcher alone. A refusal names its rule.
func (s *Survivor) Prospect(keep []string, open failover.Open) (*Prospect, failover.Result) {
	if len(keep) == 0 {
		keep = []string{s.n.o.Name}
	}
	keep = slices.Compact(slices.Sorted(slices.Values(keep)))
	if !slices.Contains(keep, s.n.o.Name) {
		return nil, failover.Result{Code: failover.CodeInvalid, Rule: "member", Detail: fmt.Sprintf("this watcher, %q, is not among those that are kept", s.n.o.Name)}
	}
	plan := recoveryPlan{Keep: keep, Open: open}
	if s.made(keep) {
		return &Prospect{State: s.State, Kept: s.State.Members, Left: s.State.Recovery.Left, Done: s.plan == nil, plan: recoveryPlan{ID: s.State.Recovery.ID, Keep: keep}}, failover.Result{Accepted: true}
	}
	plan.ID = s.id(plan)
	order := failover.RecoverOrder{ID: plan.ID, Keep: keep, Open: open}
	if b := s.n.dir.identity.Behind; b != nil {
		order.Above = b.Generation
	}
	state, r := s.State.Recover(order)
	if !r.Accepted {
		return nil, r
	}
	return &Prospect{State: state, Kept: state.Members, Left: state.Recovery.Left, plan: plan}, r
}

// made reports whether the directory begins with a recovery for those very watchers and nothing has happened since.
func (s *Survivor) made(keep []string) bool {
	r := s.State.Recovery
	if r == nil || r.Begun != 0 || s.Last.Index != s.Last.Snapshot || len(keep) != len(s.State.Members) {
		return false
	}
	for _, m := range s.State.Members {
		if !slices.Contains(keep, m.Name) {
			return false
		}
	}
	return true
}

// id names a recovery. Two kept watchers have to find the same name without each other, so it is a digest of what they have
// in common and of the command. One that goes on alone takes a random one: should its disk have been copied, two
// recoveries of it are not the same.
func (s *Survivor) id(p recoveryPlan) string {
	if s.plan != nil && slices.Equal(s.plan.Keep, p.Keep) && s.plan.Open == p.Open {
		return s.plan.ID
	}
	if len(p.Keep) == 1 {
		return randomID()
	}
	own := lineageOf(s.State)
	text, err := json.Marshal(struct {
		Lineage    lineage
		Generation uint64
		Keep       []string
		Open       failover.Open
	}{own, s.State.Generation, p.Keep, p.Open})
	if err != nil {
		return randomID() // strings and numbers cannot fail to encode
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Recover makes what a prospect shows. Cut off by a crash, it can be done again.
func (s *Survivor) Recover(p *Prospect) error {
	if err := s.writePlan(p); err != nil {
		return err
	}
	if !s.made(p.plan.Keep) {
		if err := s.writeBeginning(p); err != nil {
			return err
		}
	}
	if err := s.dropLog(); err != nil {
		return err
	}
	if err := s.n.dir.save(s.newIdentity(p)); err != nil {
		return err
	}
	if err := s.n.dir.remove(planFile); err != nil {
		return err
	}
	return s.n.dir.giveBack()
}

func (s *Survivor) writePlan(p *Prospect) error {
	text, err := json.MarshalIndent(p.plan, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", planFile, err)
	}
	return s.n.dir.write(planFile, append(text, '\n'))
}

// writeBeginning gives raft the new state as a snapshot at the end of the old log. Raft puts what is written later at the
// same place before what was written earlier.
func (s *Survivor) writeBeginning(p *Prospect) error {
	var servers raft.Configuration
	for _, m := range p.Kept {
		servers.Servers = append(servers.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.Name), Address: raft.ServerAddress(m.Address)})
	}
	_, codec := raft.NewInmemTransport("") // only encodes the names
	defer func() { _ = codec.Close() }()
	sink, err := s.n.snaps.Create(1, s.Last.Index, s.Last.Term, servers, 1, codec)
	if err != nil {
		return fmt.Errorf("cannot create snapshot: %w", err)
	}
	return (&snapshot{state: p.State}).Persist(sink)
}

// dropLog removes the entries that the snapshot stands for, and with them old configurations.
func (s *Survivor) dropLog() error {
	first, err := s.n.store.FirstIndex()
	if err != nil {
		return fmt.Errorf("cannot look into the log: %w", err)
	}
	last, err := s.n.store.LastIndex()
	if err != nil {
		return fmt.Errorf("cannot look into the log: %w", err)
	}
	if last == 0 {
		return nil
	}
	if err := s.n.store.DeleteRange(first, last); err != nil {
		return fmt.Errorf("cannot remove log entries %d to %d: %w", first, last, err)
	}
	return nil
}

func (s *Survivor) newIdentity(p *Prospect) identity {
	i := s.n.dir.identity
	i.Lineage, i.Stage, i.Behind = lineageOf(p.State), stageStarted, nil
	if i.Agreement != nil { // the data directories of those left behind take part no longer
		kept := agreement{Section: i.Agreement.Section, Nodes: map[string]string{}}
		for _, name := range p.plan.Keep {
			if node, ok := i.Agreement.Nodes[name]; ok {
				kept.Nodes[name] = node
			}
		}
		i.Agreement = &kept
	}
	return i
}

// remove deletes a small file for good.
func (d *dataDir) remove(name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil {
		return err
	}
	return syncDir(d.path)
}

// giveBack leaves everything to the directory's owner. A person recovers as root what the daemon opens as its own user.
func (d *dataDir) giveBack() error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(d.path, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
