package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Format writes a policy as a file would propose it, in the order of the example: every default is written out, so that
// it shows what is in force and reads the same under another version's defaults, and the zone's other records stand in
// it (records). ParsePolicy reads it back as the same policy.
func Format(p failover.Policy) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(policyNode(p)); err != nil {
		return nil, fmt.Errorf("cannot write policy: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("cannot write policy: %w", err)
	}
	return out.Bytes(), nil
}

// FormatJSON is Format as JSON, which is YAML too.
func FormatJSON(p failover.Policy) ([]byte, error) {
	var tree any
	if err := policyNode(p).Decode(&tree); err != nil {
		return nil, fmt.Errorf("cannot write policy: %w", err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("cannot write policy: %w", err)
	}
	return escapeOdd(text), nil
}

// escapeOdd writes what JSON allows in a string and YAML does not, or takes for the end of a line, as escapes.
func escapeOdd(text []byte) []byte {
	if bytes.IndexFunc(text, oddInYAML) < 0 {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		if !oddInYAML(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		out = fmt.Appendf(out, "\\u%04x", r)
	}
	return out
}

// oddInYAML leaves alone what JSON would escape in two halves, which YAML takes as it is and not in halves.
func oddInYAML(r rune) bool { return r >= 0x7f && r <= 0xffff && !unicode.IsPrint(r) }

func policyNode(p failover.Policy) *yaml.Node {
	groups := block()
	for i := range p.Groups {
		groups.put(p.Groups[i].Name, groupNode(&p.Groups[i]))
	}
	return block().put("zone", zoneNode(p.Zone)).put("groups", groups.Node).Node
}

func zoneNode(z failover.Zone) *yaml.Node {
	return block().
		text("name", strings.TrimSuffix(z.Name, ".")).
		duration("ttl", z.TTL).
		text("records", z.Records).
		put("isolation", flow().duration("after", z.Isolation.After).duration("ttl", z.Isolation.TTL).
			duration("servfail_after", z.Isolation.ServfailAfter).Node).Node
}

func groupNode(g *failover.Group) *yaml.Node {
	apps := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range g.Apps {
		apps.Content = append(apps.Content, appNode(&g.Apps[i]))
	}
	p := g.Probing
	b := block().text("record", g.Record).put("apps", apps).
		put("probe", block().duration("interval", p.Interval).duration("retry_interval", p.RetryInterval).
			duration("timeout", p.Timeout).number("fall", p.Fall).number("rise", p.Rise).Node).
		put("failover", rulesNode(g.Failover)).
		put("steps", stepsNode(g))
	return b.list("notify", actionNodes(g.Notify)).Node
}

func appNode(a *failover.App) *yaml.Node {
	address := make([]string, len(a.Address))
	for i, s := range a.Address {
		address[i] = strings.TrimSuffix(s, ".") // of a host name
	}
	b := block().text("name", a.Name).texts("address", address).
		list("probes", probeNodes(a.Probes)).list("standby_probes", probeNodes(a.StandbyProbes))
	if m := a.Maintenance; m != nil {
		switches := block().put("on", actionNode(m.On)).put("off", actionNode(m.Off))
		if m.Check != nil {
			switches.put("check", actionNode(*m.Check))
		}
		b.put("maintenance", switches.Node)
	}
	if a.Database != nil {
		b.put("database", databaseNode(a.Database))
	}
	return b.Node
}

func databaseNode(d *failover.Database) *yaml.Node {
	b := block().text("kind", d.Kind).text("dsn", d.DSN).text("password_file", d.PasswordFile).
		text("password_env", string(d.PasswordEnv)).text("ca_file", d.CAFile)
	if e := d.Exec; e != nil {
		b.texts("role", e.Role).texts("freeze", e.Freeze).texts("unfreeze", e.Unfreeze).texts("catch_up", e.CatchUp).
			texts("stop_replication", e.StopReplication).texts("resume_replication", e.ResumeReplication).texts("promote", e.Promote)
	}
	return b.texts("reprotect", d.Reprotect).Node
}

func probeNodes(probes []failover.Probe) []*yaml.Node {
	var out []*yaml.Node
	for _, p := range probes {
		b := block().text("kind", p.Kind).text("name", p.Name).text("address", p.Address)
		b.http(p.HTTP)
		b.text("expect_body", p.ExpectBody).text("server_name", p.ServerName).text("query", strings.TrimSuffix(p.Query, ".")).
			text("query_type", p.QueryType).texts("expect_answer", p.ExpectAnswer).texts("exec", p.Exec).
			text("service", p.Service).truth("tls", p.TLS).text("dsn", p.DSN).text("password_file", p.PasswordFile).
			text("password_env", string(p.PasswordEnv))
		out = append(out, b.Node)
	}
	return out
}

func actionNode(a failover.Action) *yaml.Node {
	b := block().texts("exec", a.Exec)
	if a.HTTP != nil {
		request := block()
		request.http(*a.HTTP)
		b.put("http", request.Node)
	}
	if a.Webhook != nil {
		b.put("webhook", flow().text("url_file", a.Webhook.URLFile).text("url_env", string(a.Webhook.URLEnv)).Node)
	}
	return b.Node
}

func actionNodes(actions []failover.Action) []*yaml.Node {
	var out []*yaml.Node
	for _, a := range actions {
		out = append(out, actionNode(a))
	}
	return out
}

func rulesNode(f failover.Rules) *yaml.Node {
	b := block().text("mode", string(f.Mode)).number("quorum", f.Quorum).
		duration("confirm_for", f.ConfirmFor).duration("cooldown", f.Cooldown).
		put("max_lag", flow().put("bytes", leaf("!!str", formatSize(f.MaxLag.Bytes))).duration("time", f.MaxLag.Time).Node).
		text("require_fence", string(f.RequireFence)).texts("witnesses", f.Witnesses)
	return b.duration("rehearse_every", f.RehearseEvery).Node
}

// stepsNode leaves out the steps that do not run in this group, which the reader refuses.
func stepsNode(g *failover.Group) *yaml.Node {
	maintenance := false
	for i := range g.Apps {
		maintenance = maintenance || g.Apps[i].Maintenance != nil
	}
	steps := block()
	for _, name := range failover.Plan {
		s, ok := g.Steps[name]
		if !ok || !g.HasDatabase() && contains(databaseSteps, name) || !maintenance && contains(maintenanceSteps, name) {
			continue
		}
		steps.put(string(name), block().duration("timeout", s.Timeout).number("tries", s.Tries).duration("backoff", s.Backoff).
			list("before", actionNodes(s.Before)).list("after", actionNodes(s.After)).Node)
	}
	return steps.Node
}

func contains(names []failover.StepName, name failover.StepName) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// tree builds a mapping key by key; what is empty is left out, as a person would.
type tree struct{ *yaml.Node }

func block() tree { return tree{&yaml.Node{Kind: yaml.MappingNode}} }
func flow() tree  { return tree{&yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}} }

func (t tree) put(key string, value *yaml.Node) tree {
	if value.Kind == yaml.MappingNode && len(value.Content) == 0 {
		return t
	}
	t.Content = append(t.Content, leaf("!!str", key), value)
	return t
}

func (t tree) text(key, s string) tree {
	if s == "" {
		return t
	}
	return t.put(key, textNode(s))
}

func (t tree) texts(key string, list []string) tree {
	if len(list) == 0 {
		return t
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		n.Content = append(n.Content, textNode(s))
	}
	return t.put(key, n)
}

func (t tree) list(key string, items []*yaml.Node) tree {
	if len(items) == 0 {
		return t
	}
	return t.put(key, &yaml.Node{Kind: yaml.SequenceNode, Content: items})
}

func (t tree) number(key string, n int) tree {
	return t.put(key, leaf("!!int", strconv.Itoa(n)))
}

func (t tree) truth(key string, b bool) tree {
	if !b {
		return t
	}
	return t.put(key, leaf("!!bool", "true"))
}

func (t tree) duration(key string, d time.Duration) tree {
	return t.put(key, leaf("!!str", short(d)))
}

func (t tree) http(h failover.HTTP) {
	t.text("method", h.Method).text("url", h.URL).text("host", h.Host).text("ca_file", h.CAFile).
		text("header_file", h.HeaderFile).text("header_env", string(h.HeaderEnv)).text("body", h.Body)
	if len(h.ExpectStatus) > 0 {
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, status := range h.ExpectStatus {
			n.Content = append(n.Content, leaf("!!int", strconv.Itoa(status)))
		}
		t.put("expect_status", n)
	}
}

func leaf(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// textNode is text in a style that brings it back byte by byte: a literal block would normalise line ends other than
// \n, and cannot begin with white space.
func textNode(s string) *yaml.Node {
	n := leaf("!!str", s)
	odd := func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
	if strings.ContainsFunc(s, odd) || strings.ContainsAny(s, "\n\t") && strings.ContainsAny(s[:1], " \t\n") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// formatSize writes bytes in the largest unit that keeps them exact.
func formatSize(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n > 0 && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
