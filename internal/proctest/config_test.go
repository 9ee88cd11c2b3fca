package proctest

import (
	"fmt"
	"os"
	"strings"
)

func (c *cluster) configPath(watcher string) string { return c.path(watcher + ".yaml") }

func (c *cluster) writeConfig(watcher string) {
	c.t.Helper()
	must(c.t, os.WriteFile(c.configPath(watcher), []byte(c.config(watcher)), 0o600))
}

func (c *cluster) config(watcher string) string {
	s := c.settings
	var b strings.Builder
	fmt.Fprintf(&b, `watcher:
  name: %[1]s
  data_dir: %[4]s
  socket: %[2]s/%[1]s.sock
  dns_listen: ["%[3]s"]
  http_listen: ""
  log: {level: info, format: json}
cluster:
  name: test
  watchers:
`, watcher, c.dir, c.dnsAddress(watcher), orElse(s.dataDir[watcher], c.path(watcher)))
	for i, name := range names {
		fmt.Fprintf(&b, "    %s: {address: \"127.0.0.1:%d\", dns: [127.0.0.%d]}\n", name, c.base+8+i, i+1)
	}
	if s.tls {
		fmt.Fprintf(&b, "  tls: {ca_file: %[1]s.tls/ca.pem, cert_file: %[1]s.tls/%[1]s.pem, key_file: %[1]s.tls/%[1]s.key}\n", watcher)
	}
	fmt.Fprintf(&b, "  timing: %s\nzone:\n  name: ha.example.com\n%sgroups:\n  %s:\n    record: shop\n    apps:\n",
		orElse(s.timing, "{heartbeat: 250ms, election: 250ms, lease: 250ms}"), s.zone, group)
	for _, app := range []string{"main", "standby"} {
		b.WriteString(c.appConfig(app))
	}
	fmt.Fprintf(&b, "    probe: {interval: 250ms, retry_interval: 100ms, timeout: 1s, fall: 3, rise: 2}\n")
	fmt.Fprintf(&b, "    failover: {mode: %s, confirm_for: 0s, cooldown: %s}\n    steps:\n", orElse(s.mode, "automatic"), orElse(s.cooldown, "10m"))
	for _, step := range planNames {
		setting := orElse(s.steps, "timeout: 1s, tries: 10, backoff: 100ms")
		if step == "verify" {
			setting = "timeout: 5s"
		}
		setting = orElse(s.only[step], setting)
		if s.hooks {
			setting += fmt.Sprintf(", before: [{exec: [%[1]s, hook, %[2]s, before]}], after: [{exec: [%[1]s, hook, %[2]s, after]}]", stageBinary, c.dir)
		}
		fmt.Fprintf(&b, "      %s: {%s}\n", step, setting)
	}
	if s.notify != "" {
		fmt.Fprintf(&b, "    notify: %s\n", s.notify)
	}
	return b.String()
}

var planNames = []string{"maintenance-on", "freeze", "catch-up", "stop-replication", "promote", "maintenance-off", "switch-dns", "verify"}

func (c *cluster) appConfig(app string) string {
	web := orElse(c.settings.web[app], "http://"+c.appAddress(app))
	probe := "/healthz"
	if app == "main" {
		probe = orElse(c.settings.probePath, probe)
	}
	text := fmt.Sprintf(`      - name: %[1]s
        address: [%[2]s]
        probes: [{kind: http, url: "http://%[3]s%[4]s"}]
        maintenance:
          on:    {http: {method: PUT, url: "%[5]s/maintenance"}}
          off:   {http: {method: DELETE, url: "%[5]s/maintenance"}}
          check: {http: {url: "%[5]s/maintenance"}}
        database:
          kind: exec
`, app, addresses[app], c.appAddress(app), probe, web)
	for _, verb := range []string{"role", "freeze", "unfreeze", "catch-up", "stop-replication", "resume-replication", "promote"} {
		text += fmt.Sprintf("          %s: [%s, db, %s, %s, %s, %s]\n", strings.ReplaceAll(verb, "-", "_"), stageBinary, c.dir, app, other(app), verb)
	}
	return text
}

func other(app string) string { return map[string]string{"main": "standby", "standby": "main"}[app] }
