package switchover

import (
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestOutageBegan(t *testing.T) {
	type look struct {
		at   float64 // a look takes half a second
		role failover.Role
	}
	const up, replica, gone = failover.RolePrimary, failover.RoleReplica, failover.RoleUnknown
	for name, test := range map[string]struct {
		since float64 // the probes' first failure; 0: none
		looks []look
		want  float64 // 0: no outage
	}{
		"nothing fails":                      {0, []look{{9, up}, {11, up}}, 0},
		"the database alone":                 {0, []look{{9, up}, {11, gone}}, 0},
		"never looked at":                    {10, nil, 10},
		"both at once":                       {10, []look{{9, up}, {11, gone}, {13, gone}}, 10},
		"the database before the app":        {10, []look{{3, up}, {5, gone}, {11, gone}}, 10},
		"a look begun before proves nothing": {10, []look{{9.9, up}}, 10},
		"the database lives on":              {10, []look{{9, up}, {11, up}}, 0},
		"it dies later":                      {10, []look{{9, up}, {11, up}, {60, up}, {62, gone}, {64, gone}}, 62.5},
		"it is no primary any more":          {10, []look{{11, up}, {13, replica}, {15, replica}}, 13.5},
		"it comes back":                      {10, []look{{11, gone}, {13, up}}, 0},
		"it comes back and dies again":       {10, []look{{11, gone}, {13, up}, {15, gone}}, 15.5},
	} {
		var o Outage
		if test.since > 0 {
			o.Fail(second(test.since))
		}
		for _, l := range test.looks {
			before := o.Began()
			moved := o.Hear("main", second(l.at), second(l.at+0.5), failover.Observation{Role: l.role})
			want(t, name+": moved", moved, !o.Began().Equal(before))
		}
		wanted := time.Time{}
		if test.want > 0 {
			wanted = second(test.want)
		}
		if got := o.Began(); !got.Equal(wanted) {
			t.Errorf("%s: began at %v, want %v", name, got, wanted)
		}
	}
}

// What the old writer's database did is nothing to the new one's.
func TestOutageOfAnotherWriter(t *testing.T) {
	var o Outage
	want(t, "news", o.Fail(second(10)), true)
	want(t, "the same again", o.Fail(second(10)), false)
	o.Hear("main", second(11), second(11), failover.Observation{Role: failover.RolePrimary})
	want(t, "while main's lives", o.Began().IsZero(), true)
	o.Hear("standby", second(12), second(12), failover.Observation{Role: failover.RoleUnknown})
	want(t, "of standby's", o.Began(), second(10))
}
