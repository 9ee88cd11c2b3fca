package database

import (
	"fmt"
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
	k.put(server, name, func() { k.ended = append(k.ended, name) })
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
		if got := k.take(tc.server); got != tc.want {
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
	if len(k.kept) != 0 || k.take("a") != nil || !slices.Contains(k.ended, "late") {
		t.Errorf("after its end %d are kept", len(k.kept))
	}
}

func TestWarmSessionsGrowCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keeper
		k.leave("a", "a1")
		<-time.After(warmFor + time.Second)
		if got := k.take("a"); got != nil {
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
	none.put("a", "a1", func() { ended = true })
	if none.take("a") != nil || !ended {
		t.Error("kept")
	}
	none.Close()
}
