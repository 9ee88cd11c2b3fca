package database

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// keeper is what a Warm's sessions are in these tests: names, and those that were ended.
type keeper struct {
	Warm
	ended []string
}

func (k *keeper) leave(server, name string) {
	k.put(server, name, time.Now(), func() { k.ended = append(k.ended, name) })
}

func TestWarmGivesTheLastSessionOfItsServer(t *testing.T) {
	var k keeper
	k.leave("a", "a1")
	k.leave("b", "b1")
	k.leave("a", "a2")
	for _, tc := range []struct {
		server string
		want   any
	}{{"c", nil}, {"a", "a2"}, {"a", "a1"}, {"a", nil}, {"b", "b1"}} {
		if got, _ := k.take(tc.server); got != tc.want {
			t.Errorf("of %s: got %v, want %v", tc.server, got, tc.want)
		}
	}
}

func TestWarmIsBounded(t *testing.T) {
	var k keeper
	for i := range warmEach + 2 {
		k.leave("a", fmt.Sprint("a", i))
	}
	if want := []string{"a0", "a1"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
	for i := range 2 * warmMost {
		k.leave(fmt.Sprint("s", i), "x")
	}
	if len(k.kept) > warmMost {
		t.Errorf("%d are kept", len(k.kept))
	}
	k.Close()
	k.leave("a", "late")
	if len(k.kept) != 0 || !slices.Contains(k.ended, "late") {
		t.Errorf("after its end %d are kept", len(k.kept))
	}
}

func TestWarmSessionsGrowCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		k.leave("a", "a1")
		<-time.After(warmFor + time.Second)
		if got, _ := k.take("a"); got != nil {
			t.Errorf("got %v", got)
		}
		k.leave("b", "b1")
		if !slices.Equal(k.ended, []string{"a1"}) {
			t.Errorf("ended %v", k.ended)
		}
	})
}

func TestNoWarmKeepsNothing(t *testing.T) {
	var none *Warm
	ended := false
	none.put("a", "a1", time.Now(), func() { ended = true })
	if got, _ := none.take("a"); got != nil || !ended {
		t.Error("kept")
	}
	none.Close()
}

// However often a session is used, it ends a minute after it was opened.
func TestWarmSessionsDoNotGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		opened, uses := time.Now(), 0
		k.leave("a", "a1")
		for {
			<-time.After(10 * time.Second)
			value, since := k.take("a")
			if value == nil {
				break
			}
			if uses++; !since.Equal(opened) {
				t.Errorf("opened %s, told %s", opened, since)
			}
			k.put("a", value, since, func() { k.ended = append(k.ended, "a1") })
		}
		if uses != 7 || !slices.Equal(k.ended, []string{"a1"}) {
			t.Errorf("used %d times, ended %v", uses, k.ended)
		}
	})
}

// A kept session whose server is silent is given up soon, so that time is left to connect.
func TestWarmSessionThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Warm
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }() // ends with our end
		o := Options{DSN: "redis://192.0.2.1", Warm: &w}
		w.put(o.server(), &redisConn{net: ours, reader: bufio.NewReader(ours)}, time.Now(), func() {})
		r, began := &redis{o: o}, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if r.warm(ctx) || r.conn != nil {
			t.Error("a silent session was taken")
		}
		if took := time.Since(began); took != warmAnswer {
			t.Errorf("took %s", took)
		}
	})
}
