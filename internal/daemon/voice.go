package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/database"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// voice keeps the name server saying what the state says, and asks it over the wire whether it does: a switch is
// verified by an answer, not by having been told.
type voice struct {
	log       zerolog.Logger
	dns       *nameserver.Server
	dir       string          // where it is kept what is answered
	current   <-chan struct{} // closed once states are not of the past
	past      *servedZone     // what an earlier process answered; nil: nothing is known of one
	behind    bool            // noteBehind has spoken
	serial    uint32          // answered now as the committed state; 0: none is
	failed    uint32          // could not be built; 0: none, or one that is over
	published chan answered   // newest only
	saves     chan *saving    // newest only

	incomplete atomic.Pointer[string] // what is missing in what is answered, and why; nil: nothing
}

// keepPatience is how long a new answer waits for the disk. A switch must not wait for a disk that hangs: then it is
// answered, and a restart within that time may bring back the answer before it, as stale.
const keepPatience = 500 * time.Millisecond

// saving is content on its way to the disk.
type saving struct {
	content *servedZone
	done    chan struct{} // closed when it is durable, or has failed
}

// answered is zone content that the name server should answer by now.
type answered struct {
	zone   string
	serial uint32
	index  uint64 // State.ZoneIndex
}

// newVoice makes the name server answer, as stale, what was answered before the restart, if there was one.
func newVoice(dns *nameserver.Server, dir string, current <-chan struct{}, log zerolog.Logger) *voice {
	v := &voice{log: log, dns: dns, dir: dir, current: current, published: make(chan answered, 1), saves: make(chan *saving, 1)}
	past, err := readServed(dir)
	if err == nil && past == nil {
		return v
	}
	var answers *nameserver.Answers
	if err == nil {
		answers, err = past.answers()
	}
	if err != nil {
		v.log.Warn().Err(err).Msg("what was answered before the restart is lost; nothing is answered until the cluster is heard")
		return v
	}
	v.past = past
	dns.Publish(answers)
	v.log.Info().Uint32("serial", past.Zone.Serial).Uint64("index", past.Index).Msg("answering as stale what was answered before the restart")
	return v
}

// publish swaps the answers if the zone has changed. Every change raises the serial. States of the past, which a
// restarted watcher goes through, are not answered.
func (v *voice) publish(state *failover.State) {
	if !v.isCurrent() {
		return
	}
	if v.past.newerThan(state) {
		v.noteBehind(state)
		return
	}
	now := answered{zone: state.Policy.Zone.Name, serial: state.Serial, index: state.ZoneIndex()}
	if state.Serial != v.serial {
		if state.Serial == v.failed {
			return
		}
		zone, answers := v.build(state)
		if answers == nil {
			v.failed = state.Serial
			return
		}
		v.keep(servedOf(state, zone))
		v.dns.Publish(answers)
		v.serial = state.Serial
	}
	select {
	case <-v.published:
	default:
	}
	v.published <- now
}

// build makes a state's answers, nil if there can be none, and says what is missing in them.
func (v *voice) build(state *failover.State) (nameserver.Zone, *nameserver.Answers) {
	zone, unread := zoneOf(state)
	answers, missing, err := buildMost(zone)
	if unread != nil && missing == nil {
		missing = &partial{otherRecords, unread}
	}
	switch {
	case err != nil:
		v.log.Error().Str(zerolog.ErrorFieldName, briefly(err)).Uint32("serial", state.Serial).Str("do", repair).Msg("cannot build the zone, the old answers stay")
		text := "the zone's old answers stay: " + briefly(err) + "; " + repair
		v.incomplete.Store(&text)
	case missing != nil:
		v.log.Error().Str(zerolog.ErrorFieldName, briefly(missing.why)).Uint32("serial", state.Serial).Str("without", missing.without).Str("do", repair).
			Msg("cannot answer the zone as the policy has it, a part is left out")
		text := missing.String()
		v.incomplete.Store(&text)
	default:
		v.incomplete.Store(nil)
	}
	return zone, answers
}

// lacks is what is missing in what is answered, for a status; empty: nothing.
func (v *voice) lacks() string {
	if text := v.incomplete.Load(); text != nil {
		return *text
	}
	return ""
}

// noteBehind says once that the cluster has gone back behind what this watcher has answered, which it must not.
func (v *voice) noteBehind(state *failover.State) {
	if !v.behind {
		v.behind = true
		v.log.Error().Uint32("serial", state.Serial).Uint32("answered", v.past.Zone.Serial).Msg("the cluster's state is older than what was answered before the restart; that answer stays")
	}
}

func (v *voice) isCurrent() bool {
	select {
	case <-v.current:
		return true
	default:
		return false
	}
}

// keep waits until content is durable, but not for ever. Only the desk calls it.
func (v *voice) keep(content *servedZone) {
	s := &saving{content: content, done: make(chan struct{})}
	select {
	case <-v.saves:
	default:
	}
	v.saves <- s
	timer := time.NewTimer(keepPatience)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		v.log.Error().Uint32("serial", content.Zone.Serial).Dur("after", keepPatience).Msg("a new answer is given before it is kept; check the disk")
	}
}

// save writes what is to be kept until ctx ends.
func (v *voice) save(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-v.saves:
			if err := s.content.write(v.dir); err != nil {
				v.log.Error().Err(err).Uint32("serial", s.content.Zone.Serial).Msg("a restart would bring back an older answer, as stale")
			}
			close(s.done)
		}
	}
}

// confirm asks this watcher's own name server until it answers what was published, and tells the newest index answered.
func (v *voice) confirm(ctx context.Context, served chan<- uint64) {
	var last uint64
	for {
		var want answered
		select {
		case <-ctx.Done():
			return
		case want = <-v.published:
		}
		if want.index == last {
			continue
		}
		for !v.answers(ctx, want) {
			select {
			case <-ctx.Done():
				return
			case newer := <-v.published:
				want = newer
			case <-time.After(100 * time.Millisecond):
			}
		}
		last = want.index
		select {
		case <-ctx.Done():
			return
		case served <- last:
		}
	}
}

// answers asks for the zone's SOA over UDP.
func (v *voice) answers(ctx context.Context, want answered) bool {
	addrs := v.dns.Addrs()
	if len(addrs) == 0 {
		return true
	}
	client := dns.Client{Timeout: time.Second}
	query := new(dns.Msg).SetQuestion(want.zone, dns.TypeSOA)
	reply, _, err := client.ExchangeContext(ctx, query, reachable(addrs[0]).String())
	if err != nil || len(reply.Answer) == 0 {
		return false
	}
	soa, ok := reply.Answer[0].(*dns.SOA)
	return ok && soa.Serial >= want.serial
}

// reachable turns an address that is listened on into one that can be asked.
func reachable(a netip.AddrPort) netip.AddrPort {
	switch {
	case a.Addr() == netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case a.Addr() == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return a
}

// checks are what the parts know about keys that the configuration cannot judge by itself.
func checks() config.Options {
	return config.Options{
		CheckDSN: database.Check,
		CheckRecords: func(zone string, ttl time.Duration, text string) error {
			_, err := nameserver.ParseStatic(zone, uint32(ttl/time.Second), text)
			return err
		},
		CheckZone: checkZone,
	}
}

// aimKey changes whenever the probes' targets may have.
func aimKey(s *failover.State) string {
	var key strings.Builder
	key.WriteString(strconv.FormatUint(s.PolicyRevision, 10))
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		for _, app := range s.Policy.Group(name).Apps {
			fmt.Fprintf(&key, " %s/%s/%d/%t", name, app.Name, g.Apps[app.Name].Revision, g.Active == app.Name)
		}
	}
	return key.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
