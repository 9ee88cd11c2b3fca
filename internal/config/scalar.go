package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Limits of texts. Bodies are replicated with the policy, so they are kept small.
const (
	maxText = 4 << 10
	maxBody = 64 << 10
)

// text reads a scalar that is text. Numbers and truth values are refused rather than taken by their spelling: YAML
// would read 1e3 and 0x10 as numbers and a person may have meant either.
func (v value) text(limit int) (string, bool) {
	if v.node == nil {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode || isNull(v.node) {
		v.fault("want text, got %s", describe(v.node))
		return "", false
	}
	if v.node.ShortTag() != "!!str" {
		v.fault("want text, got %s: put it in quotes", describe(v.node))
		return "", false
	}
	s := v.node.Value
	switch {
	case len(s) > limit:
		v.fault("is longer than %d bytes", limit)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		v.fault("holds bytes that are not text")
	default:
		return s, true
	}
	return "", false
}

// oneLine is text that may not be empty nor go over several lines.
func (v value) oneLine() (string, bool) {
	s, ok := v.text(maxText)
	switch {
	case !ok:
		return "", false
	case s == "":
		v.fault("is empty")
		return "", false
	case strings.ContainsAny(s, "\r\n"):
		v.fault("want one line, got several")
		return "", false
	}
	return s, true
}

// text sets into from an optional key.
func (m *mapping) text(key string, into *string, limit int) {
	if v, ok := m.get(key); ok {
		if s, ok := v.text(limit); ok {
			*into = s
		}
	}
}

// oneLine sets into from an optional key whose value may not be empty.
func (m *mapping) oneLine(key string, into *string) {
	if v, ok := m.get(key); ok {
		if s, ok := v.oneLine(); ok {
			*into = s
		}
	}
}

// variableName is what a shell and a service manager take as a variable's name.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secret reads where a secret is: in a file (key_file), or in a variable of each watcher's environment (key_env). No fault
// repeats what was given as a name, since that may be the secret itself.
func (m *mapping) secret(key string, file *string, variable *failover.Variable) {
	m.oneLine(key+"_file", file)
	v, ok := m.get(key + "_env")
	if !ok {
		return
	}
	name := v.node.Value
	isText := v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!str" && len(name) <= maxText
	switch {
	case m.has(key + "_file"):
		v.fault("is given beside %s_file; want one of the two", key)
	case !isText || !variableName.MatchString(name):
		v.fault("want the name of an environment variable, of letters, digits and _ and not beginning with a digit; the secret itself stays out of the file")
	case name == "PATH" || name == "LANG":
		v.fault("%s is in the environment of every program that is run; want a variable of the secret's own", name)
	default:
		*variable = failover.Variable(name)
	}
}

// choice sets into from an optional key that takes one of a few words.
func choice[T ~string](m *mapping, key string, into *T, words ...T) {
	v, ok := m.get(key)
	if !ok {
		return
	}
	s, ok := v.text(maxText)
	if !ok {
		return
	}
	if slices.Contains(words, T(s)) {
		*into = T(s)
		return
	}
	v.fault("%s", notOneOf(s, words))
}

// notOneOf says that s is none of words, and which of them a slip of the finger may have meant.
func notOneOf[T ~string](s string, words []T) string {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	if near, ok := nearest(s, names); ok {
		return fmt.Sprintf("%q is unknown; did you mean %q?", clip(s), near)
	}
	return fmt.Sprintf("%q is unknown; want one of %s", clip(s), strings.Join(names, ", "))
}

// truth sets into from an optional key that takes true or false. YAML 1.1's yes and on are text here, and refused.
func (m *mapping) truth(key string, into *bool) {
	v, ok := m.get(key)
	if !ok || v.node == nil {
		return
	}
	b, err := strconv.ParseBool(v.node.Value)
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" || err != nil {
		v.fault("want true or false, got %s", describe(v.node))
		return
	}
	*into = b
}

// number sets into from an optional key, within bounds.
func (m *mapping) number(key string, into *int, least, most int) bool {
	v, ok := m.get(key)
	if !ok {
		return false
	}
	n, ok := v.number(least, most)
	if ok {
		*into = n
	}
	return ok
}

func (v value) number(least, most int) (int, bool) {
	if v.node == nil {
		return 0, false
	}
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!int" {
		v.fault("want a whole number, got %s", describe(v.node))
		return 0, false
	}
	n, err := strconv.Atoi(v.node.Value)
	switch {
	case err != nil:
		v.fault("want a decimal number, got %s", clip(v.node.Value))
	case n < least || n > most:
		v.fault("%d is out of range, want %d to %d", n, least, most)
	default:
		return n, true
	}
	return 0, false
}

// duration sets into from an optional key, within bounds. It says whether the key gave a valid one.
func (m *mapping) duration(key string, into *time.Duration, least, most time.Duration) bool {
	v, ok := m.get(key)
	if !ok {
		return false
	}
	d, ok := v.duration(least, most)
	if ok {
		*into = d
	}
	return ok
}

func (v value) duration(least, most time.Duration) (time.Duration, bool) {
	if v.node == nil {
		return 0, false
	}
	if v.node.Kind != yaml.ScalarNode {
		v.fault("want a duration like 5s, got %s", describe(v.node))
		return 0, false
	}
	s := v.node.Value
	d, err := time.ParseDuration(s)
	switch _, numeric := strconv.ParseFloat(s, 64); {
	case numeric == nil:
		v.fault("want a duration with its unit, got %s: write %ss or %sms", clip(s), clip(s), clip(s))
	case err != nil:
		v.fault("want a duration like 1500ms, 5s, 10m or 2h, got %s", describe(v.node))
	case d < 0:
		v.fault("%s is negative", s)
	case d < least || d > most:
		v.fault("%s is out of range, want %s to %s", s, short(least), short(most))
	default:
		return d, true
	}
	return 0, false
}

// short spells a duration as a person would: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// wholeSeconds complains about a TTL that DNS cannot carry.
func (m *mapping) wholeSeconds(key string, d time.Duration) {
	if d%time.Second != 0 {
		m.fields[key].fault("%s is not a whole number of seconds, which DNS counts in", short(d))
	}
}

// units of sizes: IEC and SI, longest suffix first so that "MiB" is not read as "B".
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// size sets into, in bytes, from an optional key such as 16MiB; a plain number is bytes.
func (m *mapping) size(key string, into *int64) {
	v, ok := m.get(key)
	if !ok || v.node == nil {
		return
	}
	if v.node.Kind != yaml.ScalarNode {
		v.fault("want a size like 16MiB, got %s", describe(v.node))
		return
	}
	n, err := parseSize(v.node.Value)
	if err != nil {
		v.fault("%v", err)
		return
	}
	*into = n
}

func parseSize(s string) (int64, error) {
	digits, factor := s, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, factor = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil && strings.HasPrefix(digits, "-"), n < 0:
		return 0, fmt.Errorf("%s is negative", clip(s))
	case err != nil:
		return 0, fmt.Errorf("want a size like 16MiB, got %q", clip(s))
	case n > math.MaxInt64/factor:
		return 0, fmt.Errorf("%s is more than can be counted", clip(s))
	}
	return n * factor, nil
}

// hostPort reads host:port. The port is 1 to 65535, or 0 (any free one) where anyPort.
func (v value) hostPort(anyPort bool) (host, port string, ok bool) {
	s, ok := v.oneLine()
	if !ok {
		return "", "", false
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		v.fault("want host:port, got %q%s", clip(s), hostPortHint(s))
		return "", "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !anyPort {
		v.fault("want a port of 1 to 65535, got %q", clip(port))
		return "", "", false
	}
	return host, port, true
}

func hostPortHint(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		return fmt.Sprintf("; write \"[%s]:PORT\"", s)
	}
	if !strings.Contains(s, ":") {
		return "; the port is missing"
	}
	return ""
}

// dialable reads the host:port of something to connect to.
func (v value) dialable() (string, bool) {
	host, port, ok := v.hostPort(false)
	if !ok || !v.host(host) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// host checks an IP address or host name that is to be connected to.
func (v value) host(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() {
			v.fault("%s cannot be connected to", host)
			return false
		}
		return true
	}
	if host == "" {
		v.fault("the host before the port is missing")
		return false
	}
	if err := checkHostName(host); err != nil {
		v.fault("%v", err)
		return false
	}
	return true
}
