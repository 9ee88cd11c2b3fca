package proctest

import (
	"fmt"
	"net"
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
		port, own := fmt.Sprintf("127.0.0.1:%d", c.base+8+i), fmt.Sprintf("127.0.0.%d", i+1)
		if c.lab != nil {
			own = hostAddresses[name]
			port = own + ":7653"
		}
		fmt.Fprintf(&b, "    %s: {address: %q, dns: [%s]}\n", name, port, own)
	}
	if s.tls {
		fmt.Fprintf(&b, "  tls: {ca_file: %[1]s.tls/ca.pem, cert_file: %[1]s.tls/%[1]s.pem, key_file: %[1]s.tls/%[1]s.key}\n", watcher)
	}
	timing, probe := "{heartbeat: 250ms, election: 250ms, lease: 250ms}", "{interval: 250ms, retry_interval: 100ms, timeout: 1s, fall: 3, rise: 2}"
	if s.hosts {
		timing, probe = "{heartbeat: 500ms, election: 500ms, lease: 500ms}", "{interval: 500ms, retry_interval: 200ms, timeout: 2s, fall: 3, rise: 2}"
	}
	fmt.Fprintf(&b, "  timing: %s\nzone:\n  name: ha.example.com\n%sgroups:\n  %s:\n    record: shop\n    apps:\n", orElse(s.timing, timing), s.zone, group)
	for _, app := range []string{"main", "standby"} {
		b.WriteString(c.appConfig(app))
	}
	fmt.Fprintf(&b, "    probe: %s\n", probe)
	fmt.Fprintf(&b, "    failover: {mode: %s, confirm_for: 0s, cooldown: %s, rehearse_every: %s}\n    steps:\n", orElse(s.mode, "automatic"), orElse(s.cooldown, "10m"), orElse(s.rehearse, "10m"))
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
          on:    %[6]s
          off:   %[7]s
          check: {http: {url: "%[5]s/maintenance"}}
        database:
`, app, addresses[app], c.appAddress(app), probe, web, c.turn("PUT", web), c.turn("DELETE", web))
	if server := c.settings.databases[app]; server != "" {
		return text + server
	}
	text += "          kind: exec\n"
	for _, verb := range []string{"role", "freeze", "unfreeze", "catch-up", "stop-replication", "resume-replication", "promote"} {
		if c.lab != nil {
			text += fmt.Sprintf("          %s: [%s, db-at, %q, %s]\n", strings.ReplaceAll(verb, "-", "_"), stageBinary, c.databaseAddress(app), verb)
			continue
		}
		text += fmt.Sprintf("          %s: [%s, db, %s, %s, %s, %s]\n", strings.ReplaceAll(verb, "-", "_"), stageBinary, c.dir, app, other(app), verb)
	}
	return text
}

// turn is the action that turns an app's maintenance switch: on hosts a program, which runs on the watcher's.
func (c *cluster) turn(method, web string) string {
	if c.lab == nil {
		return fmt.Sprintf("{http: {method: %s, url: \"%s/maintenance\"}}", method, web)
	}
	return fmt.Sprintf("{exec: [%s, turn, %s, %s, %q]}", stageBinary, c.dir, method, web+"/maintenance")
}

func (c *cluster) databaseAddress(app string) string {
	return net.JoinHostPort(hostAddresses[app], databasePort)
}

func other(app string) string { return map[string]string{"main": "standby", "standby": "main"}[app] }
