package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Lengths of DNS names and their labels (RFC 1035, section 2.3.4), without the final dot.
const (
	maxLabel = 63
	maxName  = 253
)

// checkWord judges a name that a person gives to a watcher, group, app or probe. It becomes a DNS label, a metric's
// label and part of a URL, so it is held to what all of them can carry.
func checkWord(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("a name may not be empty")
	case len(s) > maxLabel:
		return fmt.Errorf("%q is longer than %d characters", clip(s), maxLabel)
	case strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("%q is not a name; want lower-case letters, digits and hyphens", clip(s))
	case s[0] == '-' || s[len(s)-1] == '-':
		return fmt.Errorf("%q begins or ends with a hyphen", s)
	}
	for _, c := range s {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("%q is not a name; want lower-case letters, digits and hyphens", clip(s))
		}
	}
	return nil
}

// checkDNSName judges a lower-case DNS name of one or more labels without a final dot. Underscores are allowed, since
// names of services begin with them.
func checkDNSName(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("%q is longer than %d characters", clip(s), maxName)
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return fmt.Errorf("%q has an empty label", s)
		case len(label) > maxLabel:
			return fmt.Errorf("label %q is longer than %d characters", clip(label), maxLabel)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("label %q begins or ends with a hyphen", label)
		}
		for _, c := range label {
			switch {
			case c > 127:
				return fmt.Errorf("%q is not ASCII; write its xn-- form", s)
			case c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z'):
				return fmt.Errorf("%q is not a DNS name: %q may not be in it", clip(s), string(c))
			}
		}
	}
	return nil
}

// checkHostName judges the name of a machine to connect to. A name of digits only at its end is a mistyped address.
func checkHostName(s string) error {
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if name == "" {
		return fmt.Errorf("a host name may not be empty")
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("%q is neither an IP address nor a host name", clip(s))
	}
	return checkDNSName(name)
}

// word reads a name given as a value.
func (v value) word() (string, bool) {
	s, ok := v.text(maxText)
	if !ok {
		return "", false
	}
	if err := checkWord(s); err != nil {
		v.fault("%v", err)
		return "", false
	}
	return s, true
}

// address reads one IP address that a record can carry.
func (v value) address() (netip.Addr, bool) {
	s, ok := v.oneLine()
	if !ok {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		v.fault("%q is not an IP address%s", clip(s), addressHint(s))
	default:
		return ip, v.publishable(ip)
	}
	return netip.Addr{}, false
}

func addressHint(s string) string {
	if _, err := netip.ParseAddrPort(s); err == nil {
		return "; leave out the port"
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return "; leave out the prefix length"
	}
	return ""
}

// publishable refuses addresses that no client could use.
func (v value) publishable(ip netip.Addr) bool {
	switch {
	case ip.Zone() != "":
		v.fault("%s has a zone, which DNS cannot carry", ip)
	case ip.Is4In6():
		v.fault("%s: write it as the IPv4 address %s", ip, ip.Unmap())
	case ip.IsUnspecified() || ip.IsMulticast():
		v.fault("%s is no address of a host", ip)
	default:
		return true
	}
	return false
}
