package daemon

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// The model itself finds what is wrong, and takes what is merely unlucky.
func TestOrderModelTellsGoodFromBad(t *testing.T) {
	op := func(what deed, id uint64, call, ret int64, r reply) porcupine.Operation {
		return porcupine.Operation{Input: change{what: what, id: id}, Output: r, Call: call, Return: ret}
	}
	yes, open := reply{accepted: true}, reply{accepted: true, id: 7}
	for _, test := range []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"a switchover and its end", []porcupine.Operation{op(doSwitch, 0, 1, 2, open), op(didEnd, 7, 3, 4, reply{})}, true},
		{"two at once, one is refused", []porcupine.Operation{op(doSwitch, 0, 1, 4, reply{rule: "open"}), op(doSwitch, 0, 2, 3, open)}, true},
		{"refused before the other was given", []porcupine.Operation{op(doSwitch, 0, 1, 2, reply{rule: "open"}), op(doSwitch, 0, 3, 4, open)}, false},
		{"two are accepted", []porcupine.Operation{op(doSwitch, 0, 1, 2, open), op(doSwitch, 0, 3, 4, reply{accepted: true, id: 8})}, false},
		{"a failover opens after a pause was answered", []porcupine.Operation{op(doPause, 0, 1, 2, yes), op(didOpen, 7, 3, 4, reply{})}, false},
		{"a failover opens while a pause is on its way", []porcupine.Operation{op(doPause, 0, 1, 4, yes), op(didOpen, 7, 2, 3, reply{})}, true},
		{"aborted past the point of no return", []porcupine.Operation{op(doSwitch, 0, 1, 2, open), op(didPass, 7, 3, 4, reply{}), op(doAbort, 0, 5, 6, open)}, false},
		{"aborted just before it", []porcupine.Operation{op(doSwitch, 0, 1, 2, open), op(didPass, 7, 3, 6, reply{}), op(doAbort, 0, 4, 5, reply{rule: "past_no_return"})}, true},
		{"an abort that is lost", []porcupine.Operation{op(doSwitch, 0, 1, 2, open), op(doAbort, 0, 3, 4, reply{rule: "not_open"})}, false},
	} {
		if got := porcupine.CheckOperations(orderModel, test.history); got != test.want {
			t.Errorf("%s: linearizable = %t, want %t", test.name, got, test.want)
		}
	}
}

// A schedule is the same for the same seed, and is read as it was written.
func TestPlanIsReadAsWritten(t *testing.T) {
	for seed := range uint64(200) {
		text := newPlan(seed).String()
		p, err := parsePlan(text)
		if err != nil {
			t.Fatal(err)
		}
		if again := newPlan(seed).String(); p.String() != text || again != text {
			t.Fatalf("seed %d: written\n%s\nread\n%s\nagain\n%s", seed, text, p, again)
		}
	}
}
