package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

// The results of check and their exit codes, from the Monitoring Plugins Development Guidelines.
const (
	checkOK = iota
	checkWarning
	checkCritical
	checkUnknown
)

var checkNames = []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}

// checkLine bounds the text of the line, in bytes: monitoring systems cut it, and the perfdata must survive that.
const checkLine = 1000

func checkCommand(u *ui) *cobra.Command {
	cmd := verb(u, "check [GROUP]", "One line for a monitoring system, with perfdata and Nagios exit codes", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			_, text, err := c.Do(ctx, "GET", "/v1/status", nil)
			var status client.Status
			if err == nil {
				err = json.Unmarshal(text, &status)
			}
			if err == nil {
				err = keepGroup(&status, firstOf(args))
			}
			if err != nil {
				_, _ = fmt.Fprintln(r.out, "UNKNOWN - "+strings.ReplaceAll(clean(err.Error()), "|", "/"))
				return &exitError{code: checkUnknown}
			}
			level, line := judge(&status)
			if r.json() {
				_, err = r.out.Write(text)
			} else {
				_, err = fmt.Fprintln(r.out, line)
			}
			if err != nil || level == checkOK {
				return err
			}
			return &exitError{code: level}
		})
	run, arguments := cmd.RunE, cmd.Args
	cmd.Args = nil
	cmd.RunE = func(cmd *cobra.Command, args []string) error { // 2 would be CRITICAL to whoever runs checks
		err := arguments(cmd, args)
		if err == nil {
			err = run(cmd, args)
		}
		return usageUnknown(err)
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageUnknown(usage(err.Error(), "")) })
	return cmd
}

// usageUnknown gives wrong usage the code that a monitoring system takes for UNKNOWN.
func usageUnknown(err error) error {
	var e *exitError
	if errors.As(err, &e) && e.text != "" {
		return &exitError{code: checkUnknown, text: e.text, hint: e.hint}
	}
	return err
}

// judge sums a status up in one line.
func judge(s *client.Status) (level int, line string) {
	var texts []string
	for _, p := range problems(s) {
		switch {
		case p.critical:
			level = checkCritical
		case !p.minor:
			level = max(level, checkWarning)
		}
		if p.group != "" {
			p.text = p.group + ": " + p.text
		}
		texts = append(texts, p.text)
	}
	if len(s.Groups) == 0 && level == checkOK {
		level, texts = checkWarning, []string{"the cluster has no groups"}
	}
	if level == checkOK {
		var well []string
		for _, g := range s.Groups {
			well = append(well, fmt.Sprintf("%s: %s is up, armed", g.Name, g.Active))
		}
		texts = append(well, texts...)
	}
	text := strings.ReplaceAll(clean(strings.Join(texts, "; ")), "|", "/") // a bar begins the perfdata
	if len(text) > checkLine {
		text = strings.ToValidUTF8(text[:checkLine], "") + "..."
	}
	return level, checkNames[level] + " - " + text + "|" + perfdata(s)
}

// perfdata is 'label'=value[unit], separated by spaces.
func perfdata(s *client.Status) string {
	watchers, heard := 0, 0
	for _, w := range s.Cluster.Watchers {
		if !w.Voter {
			continue // it joins, and does not count yet
		}
		watchers++
		if !w.Silent {
			heard++
		}
	}
	data := []string{fmt.Sprintf("watchers=%d", watchers), fmt.Sprintf("heard=%d", heard)}
	for _, g := range s.Groups {
		ready := 0
		for _, a := range g.Apps {
			if a.Role == "standby" && a.Ready {
				ready++
			}
		}
		data = append(data, fmt.Sprintf("'%s_armed'=%d", g.Name, bit(g.Automation.Armed)), fmt.Sprintf("'%s_ready'=%d", g.Name, ready))
		for _, a := range g.Apps {
			if a.Database != nil && a.Database.LagBytes != nil && a.Role == "standby" {
				data = append(data, fmt.Sprintf("'%s_%s_lag'=%dB", g.Name, a.Name, *a.Database.LagBytes))
			}
		}
	}
	return strings.Join(data, " ")
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
