package config

import (
	"slices"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxTargets bounds the targets of one group's notifications: each has a place in the replicated state.
const maxTargets = 16

// notify reads whom a group's events are told.
func (r *reader) notify(v value) []failover.Action {
	var targets []failover.Action
	if v.emptyList() {
		v.fault("is empty; want a webhook or a program, or leave the key out")
	}
	for _, item := range v.list(maxTargets) {
		a, ok := r.target(item)
		if !ok {
			continue
		}
		if slices.ContainsFunc(targets, func(b failover.Action) bool { return a.Key() == b.Key() }) {
			item.fault("is given twice; each event would be told twice")
			continue
		}
		targets = append(targets, a)
	}
	return targets
}

// target reads exactly one of webhook and exec; false: there is a fault in it.
func (r *reader) target(v value) (failover.Action, bool) {
	before := len(r.faults)
	var a failover.Action
	m := v.mapping()
	webhook, hasWebhook := m.get("webhook")
	exec, hasExec := m.get("exec")
	m.refuse("http", "is for actions and hooks; a notification goes to a webhook: {webhook: {url_file: FILE}}")
	if hasWebhook {
		a.Webhook = webhook.webhook()
	}
	if hasExec {
		a.Exec = exec.argv()
	}
	switch {
	case hasWebhook && hasExec:
		v.fault("want either webhook or exec, got both")
	case !m.broken && len(m.keys) == 0:
		v.fault("want webhook or exec, got neither")
	}
	m.done()
	return a, len(r.faults) == before
}

// webhook reads where a webhook's URL is. The URL itself is a password and stays out of the file, which is replicated.
func (v value) webhook() *failover.Webhook {
	var w failover.Webhook
	m := v.mapping()
	m.refuse("url", "a webhook's URL is a secret and stays out of the file: put it into one of its own and name that as url_file, or into an environment variable and name that as url_env")
	m.secret("url", &w.URLFile, &w.URLEnv)
	if !m.broken && !m.has("url") && !m.has("url_file") && !m.has("url_env") {
		m.at("url_file").fault("is missing: the file that holds the webhook's URL; or url_env, the environment variable that does")
	}
	m.done()
	return &w
}
