package proctest

import (
	"net"
	"slices"
	"testing"
	"time"
)

// What a host is made to lose is lost, and nothing else; and a lab leaves this machine's own network as it is.
func TestHostsLoseWhatTheyAreMadeToLose(t *testing.T) {
	t.Parallel()
	before := ownInterfaces(t)
	c := &cluster{t: t, lab: newLab(t)}
	if during := ownInterfaces(t); !slices.Equal(before, during) {
		t.Errorf("of this machine's interfaces there were %v and are %v", before, during)
	}
	listeners := map[string]net.PacketConn{}
	for _, name := range []string{"w1", "w2", "w3"} {
		var err error
		c.lab.hosts[name].do(func() {
			listeners[name], err = net.ListenPacket("udp", net.JoinHostPort(hostAddresses[name], "99"))
		})
		must(t, err)
		defer listeners[name].Close()
	}
	for _, test := range []struct {
		what string
		loss loss
		want [4]bool // w1 to w2, w2 to w1, w1 to w3, w3 to w1
	}{
		{"nothing", loss{}, [4]bool{true, true, true, true}},
		{"cut off", cutOff, [4]bool{}},
		{"deaf", deaf, [4]bool{true, false, true, false}},
		{"mute", mute, [4]bool{false, true, false, true}},
		{"cut from w2", cutFrom("w2", ""), [4]bool{false, false, true, true}},
		{"cut from w2's TCP port 99", cutFrom("w2", "99"), [4]bool{true, true, true, true}},
		{"nothing again", loss{}, [4]bool{true, true, true, true}},
	} {
		c.lose(test.loss, "w1")
		var got [4]bool
		for i, way := range [][2]string{{"w1", "w2"}, {"w2", "w1"}, {"w1", "w3"}, {"w3", "w1"}} {
			got[i] = arrives(t, listeners[way[0]], listeners[way[1]], test.want[i])
		}
		if got != test.want {
			t.Errorf("%s: arrived %v, want %v", test.what, got, test.want)
		}
		c.heal("w1")
	}
}

// arrives reports whether a packet does. What should not is waited for shortly, for it would be there at once.
func arrives(t *testing.T, from, to net.PacketConn, should bool) bool {
	t.Helper()
	wait := 250 * time.Millisecond
	if should {
		wait = 10 * time.Second
	}
	_, _ = from.WriteTo([]byte("packet"), to.LocalAddr()) // a packet dropped on its way out is an error, here or there
	must(t, to.SetReadDeadline(time.Now().Add(wait)))
	_, _, err := to.ReadFrom(make([]byte, 16))
	return err == nil
}

// ownInterfaces lists this machine's own interfaces that are called like one of a lab's.
func ownInterfaces(t *testing.T) (list []string) {
	t.Helper()
	all, err := net.Interfaces()
	must(t, err)
	for _, one := range all {
		if _, ours := hostAddresses[one.Name]; ours || one.Name == bridge {
			list = append(list, one.Name)
		}
	}
	return list
}
