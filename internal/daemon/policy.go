package daemon

import (
	"errors"
	"net/netip"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// proposalName stands for the text that came over the socket, which has no file's name.
const proposalName = "policy"

// PolicyText is how a policy is written down for the socket.
type PolicyText struct{}

// Parse reads a proposal, by all that the parts know, without looking at any file of this machine.
func (PolicyText) Parse(text []byte, s *failover.State) (failover.Policy, []client.Fault) {
	p, err := ParsePolicy(proposalName, text, "", s.Members)
	if err == nil {
		return p, nil
	}
	var all config.Errors
	if !errors.As(err, &all) {
		return failover.Policy{}, []client.Fault{{Message: err.Error()}}
	}
	var faults []client.Fault
	for _, f := range all {
		faults = append(faults, client.Fault{Line: f.Line, Path: f.Path, Message: f.Message})
	}
	return failover.Policy{}, faults
}

// YAML writes a policy as a file would propose it.
func (PolicyText) YAML(p failover.Policy) ([]byte, error) { return config.Format(p) }

// JSON is YAML as JSON.
func (PolicyText) JSON(p failover.Policy) ([]byte, error) { return config.FormatJSON(p) }

// Diff shows what changes from one policy to another.
func (PolicyText) Diff(before, after failover.Policy) (string, error) {
	return config.Diff(before, after)
}

// ParsePolicy reads zone and groups and checks them with everything that the parts know about their own keys, and with
// the members as far as they are known. A records_file is read in dir; an empty dir refuses it.
func ParsePolicy(name string, text []byte, dir string, members []failover.Member) (failover.Policy, error) {
	return checksAmong(members).ParsePolicy(name, text, dir)
}

// checksAmong are checks that hold a policy against these members, whatever a file says of its watchers.
func checksAmong(members []failover.Member) config.Options {
	o := checks()
	known := map[string]config.Member{}
	for _, m := range members {
		o.Members = append(o.Members, m.Name)
		known[m.Name] = config.Member{Address: m.Address, DNS: addresses(m.DNS)}
	}
	o.CheckZone = func(p failover.Policy, _ map[string]config.Member) error { return checkZone(p, known) }
	return o
}

// standIn is a watcher where none is known: a zone is not judged without a name server.
const standIn = "watchover-stand-in"

// addresses are those of a watcher's NS record; any will do where they are not known, as to the command line.
func addresses(texts []string) (list []netip.Addr) {
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			list = append(list, ip)
		}
	}
	if len(list) == 0 {
		list = append(list, netip.IPv6Loopback())
	}
	return list
}
