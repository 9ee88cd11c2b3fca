package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	pollTime  = time.Second            // how long the primary holds a question when there is nothing new
	pullTime  = pollTime + time.Second // after which a silent primary is not streaming any more
	retryTime = 100 * time.Millisecond
	batch     = 500      // entries in one answer
	maxAnswer = 16 << 20 // bytes
)

// stream is what the replica knows of its stream; guarded by store.mu.
type stream struct {
	live     bool
	fault    string    // why it is not
	seq      int       // the primary's last, as far as known
	bytes    int64     // the primary's size
	caughtUp time.Time // when everything known was last here
	cancel   context.CancelFunc
}

// status is what a store says of itself; also the head of a replication answer.
type status struct {
	ID         string  `json:"id"`
	Role       string  `json:"role"`
	Frozen     bool    `json:"frozen"`
	Timeline   int     `json:"timeline"`
	Seq        int     `json:"seq"`
	Bytes      int64   `json:"bytes"`
	Streaming  bool    `json:"streaming"`
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"`
	Fault      string  `json:"fault,omitempty"`
	Entries    []entry `json:"entries,omitempty"`
}

func (s *store) status() status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statusLocked()
}

func (s *store) statusLocked() status {
	st := status{ID: s.meta.ID, Role: s.meta.Role, Frozen: s.meta.Frozen, Timeline: s.meta.Timeline, Seq: len(s.entries), Bytes: s.size()}
	if s.meta.Role == roleReplica {
		st.Streaming, st.Fault = s.stream.live, s.stream.fault
		st.LagBytes = max(0, s.stream.bytes-st.Bytes)
		if st.LagBytes > 0 {
			st.LagSeconds = time.Since(s.stream.caughtUp).Seconds()
		}
	}
	return st
}

// line is the answer to "db role", in the words of Watchover's exec database.
func (st status) line() string {
	words := []string{st.Role}
	if st.Frozen {
		words = append(words, "frozen")
	}
	if st.Role == roleReplica {
		if st.Streaming {
			words = append(words, "streaming")
		}
		words = append(words, fmt.Sprintf("lag_bytes=%d lag_seconds=%.3f", st.LagBytes, st.LagSeconds))
	}
	if st.ID != "" {
		words = append(words, "id="+st.ID)
	}
	return strings.Join(words, " ")
}

// after answers a replica: what follows its last entry, as soon as there is anything. A replica whose log is no
// beginning of ours is refused.
func (s *store) after(ctx context.Context, id string, seq int, sum string) (status, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	_ = s.wait(ctx, func() bool { return len(s.entries) != seq || s.meta.Role != rolePrimary || id != s.meta.ID })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.meta.Role != rolePrimary:
		return status{}, refuse("this is no primary")
	case id != "" && id != s.meta.ID:
		return status{}, refuse("this is data set %s, not %s", s.meta.ID, id)
	case seq < 0 || seq > len(s.entries):
		return status{}, refuse("the replica has %d entries, more than the %d here", seq, len(s.entries))
	case s.sumAt(seq) != sum:
		return status{}, refuse("the replica's log has parted from this one, at entry %d or before", seq)
	}
	st := s.statusLocked()
	st.Entries = append(st.Entries, s.entries[seq:min(len(s.entries), seq+batch)]...)
	return st, nil
}

// replicate keeps a replica up to date until the context ends.
func (s *store) replicate(ctx context.Context, logger *log.Logger) {
	last := "nothing asked yet"
	for ctx.Err() == nil {
		if s.wait(ctx, s.pulls) != nil {
			return
		}
		err := s.pull(ctx)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != last && ctx.Err() == nil {
			logger.Printf("replication: %s", map[bool]string{true: "streaming", false: text}[err == nil])
			last = text
		}
		if err != nil {
			select {
			case <-time.After(retryTime):
			case <-ctx.Done():
			}
		}
	}
}

func (s *store) pulls() bool {
	return s.meta.Role == roleReplica && !s.meta.Stopped && s.meta.Peer != ""
}

// pull asks the primary once and stores what it answers, unless it was told to stop in between.
func (s *store) pull(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	s.mu.Lock()
	s.stream.cancel = cancel
	seq, id, peer := len(s.entries), s.meta.ID, s.meta.Peer
	q := url.Values{"id": {id}, "after": {strconv.Itoa(seq)}, "sum": {s.sumAt(seq)}}
	s.mu.Unlock()
	var answer status
	err := call(ctx, http.MethodGet, peer+"/replication?"+q.Encode(), nil, &answer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pulls() || s.meta.Peer != peer || len(s.entries) != seq {
		return nil // told otherwise meanwhile
	}
	if err == nil {
		err = s.receive(answer)
	}
	s.stream.live, s.stream.fault = err == nil, ""
	if err != nil {
		s.stream.fault = err.Error()
	}
	return err
}

// receive checks an answer and stores it. Nothing is copied from another data set or from a past that was left behind.
func (s *store) receive(a status) error {
	switch {
	case a.ID == "" || s.meta.ID != "" && a.ID != s.meta.ID:
		return refuse("the peer holds data set %q, not %q: nothing copied", a.ID, s.meta.ID)
	case s.meta.ID == "" && len(s.entries) > 0:
		return refuse("the log has entries but no data set: nothing copied")
	case a.Timeline < s.meta.Timeline:
		return refuse("the peer is on timeline %d, older than %d here: nothing copied", a.Timeline, s.meta.Timeline)
	case a.Seq < len(s.entries):
		return refuse("the peer has %d entries, fewer than %d here: nothing copied", a.Seq, len(s.entries))
	}
	n, sum := len(s.entries), s.sumAt(len(s.entries))
	for i, e := range a.Entries {
		if e.Seq != n+i+1 || e.Sum != e.sumAfter(sum) {
			return refuse("the peer's entry %d does not continue the log: nothing copied", e.Seq)
		}
		sum = e.Sum
	}
	if s.meta.ID != a.ID || s.meta.Timeline != a.Timeline {
		if err := s.updateLocked("database", 0, func(m *meta) error { m.ID, m.Timeline = a.ID, a.Timeline; return nil }); err != nil {
			return err
		}
	}
	s.stream.seq, s.stream.bytes = a.Seq, a.Bytes
	if len(a.Entries) > 0 {
		if err := s.write(a.Entries...); err != nil {
			return err
		}
	}
	if s.size() >= a.Bytes {
		s.stream.caughtUp = time.Now()
	}
	return nil
}

// catchUp waits until everything is here that the primary has now.
func (s *store) catchUp(ctx context.Context, token uint64) error {
	peer := ""
	err := s.update("database", token, func(m *meta) error {
		if m.Role != roleReplica || m.Stopped {
			return refuse("this is no replica, or its replication is stopped: there is nothing to wait for")
		}
		peer = m.Peer
		return nil
	})
	if err != nil {
		return err
	}
	var primary status
	if err := call(ctx, http.MethodGet, peer+"/admin/db", nil, &primary); err != nil {
		return fmt.Errorf("cannot ask the primary how far it is: %w", err)
	}
	err = s.wait(ctx, func() bool { return len(s.entries) >= primary.Seq && s.meta.ID == primary.ID })
	if err != nil {
		st := s.status()
		return fmt.Errorf("cannot catch up in time: entry %d of %d received %s: %w", st.Seq, primary.Seq, st.Fault, err)
	}
	return nil
}

// promote makes a replica the primary of a new timeline. What was frozen for a switch is open again.
func (s *store) promote(token uint64) error {
	return s.update("database", token, func(m *meta) error {
		switch {
		case m.Role == rolePrimary:
			return nil
		case m.ID == "":
			return refuse("this replica has never received anything")
		}
		m.Role, m.Timeline, m.Frozen, m.Stopped = rolePrimary, m.Timeline+1, false, false
		s.halt()
		return nil
	})
}

// stop and resume replication; the question in flight is dropped, its answer would not be stored any more.
func (s *store) setStopped(token uint64, stopped bool) error {
	return s.update("database", token, func(m *meta) error {
		if m.Role == rolePrimary {
			if stopped {
				return nil
			}
			return refuse("this is the primary, it does not replicate")
		}
		m.Stopped = stopped
		s.halt()
		return nil
	})
}

// halt drops the question in flight.
func (s *store) halt() {
	s.stream.live, s.stream.fault = false, "replication is stopped"
	if s.stream.cancel != nil {
		s.stream.cancel()
	}
}

// follow makes this store a replica of the peer. Entries that the peer does not have are set aside in a file.
func (s *store) follow(ctx context.Context, token uint64, peer string) (string, error) {
	var primary status
	if err := call(ctx, http.MethodGet, peer+"/admin/db", nil, &primary); err != nil {
		return "", fmt.Errorf("cannot ask the new primary: %w", err)
	}
	common, err := s.common(ctx, peer, primary.Seq)
	if err != nil {
		return "", err
	}
	set, aside := 0, ""
	err = s.update("database", token, func(m *meta) error {
		switch {
		case primary.Role != rolePrimary:
			return refuse("%s is no primary", peer)
		case m.ID != "" && primary.ID != m.ID:
			return refuse("%s holds data set %s, not %s: start with an empty data directory instead", peer, primary.ID, m.ID)
		case m.Role == rolePrimary && primary.Timeline <= m.Timeline:
			return refuse("%s is on timeline %d, not newer than %d here: this one is the primary", peer, primary.Timeline, m.Timeline)
		}
		if set = len(s.entries) - common; set > 0 {
			if aside, err = s.setAside(common); err != nil {
				return err
			}
		}
		m.Role, m.Peer, m.Frozen, m.Stopped, m.Timeline = roleReplica, peer, false, false, primary.Timeline
		s.halt()
		return nil
	})
	if err != nil || set == 0 {
		return "following, nothing discarded", err
	}
	return fmt.Sprintf("following, %d diverged entries moved to %s", set, aside), nil
}

// common finds how many entries both logs share. A sum covers all before it, so halving finds the place.
func (s *store) common(ctx context.Context, peer string, theirs int) (int, error) {
	low, high := 0, min(s.status().Seq, theirs)
	for low < high {
		mid := (low + high + 1) / 2
		s.mu.Lock()
		ours := ""
		if mid <= len(s.entries) {
			ours = s.sumAt(mid)
		}
		s.mu.Unlock()
		var theirs struct{ Sum string }
		if err := call(ctx, http.MethodGet, fmt.Sprintf("%s/replication/sum?seq=%d", peer, mid), nil, &theirs); err != nil {
			return 0, fmt.Errorf("cannot compare the logs: %w", err)
		}
		if theirs.Sum == ours {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

// setAside copies the entries after the first n into a file of their own and removes them from the log.
func (s *store) setAside(n int) (string, error) {
	f, err := os.CreateTemp(s.dir, "diverged-*.jsonl")
	if err != nil {
		return "", fmt.Errorf("cannot set entries aside: %w", err)
	}
	begin := int64(0)
	if n > 0 {
		begin = s.ends[n-1]
	}
	_, err = io.Copy(f, io.NewSectionReader(s.log, begin, s.size()-begin))
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(s.dir)); err != nil {
		return "", fmt.Errorf("cannot set entries aside: %w", err)
	}
	return f.Name(), s.cut(n)
}

// client asks the apps directly, whatever proxy the environment names.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}}

// call sends one request and reads a JSON answer of bounded size. An error answer's text is the error.
func call(ctx context.Context, method, target string, header http.Header, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b[:min(len(b), 500)])))
	}
	return json.Unmarshal(b, answer)
}
