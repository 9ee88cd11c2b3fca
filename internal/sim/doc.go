// Package sim plays Watchover against a world that goes wrong, many times a second, and holds every event of it against
// the guarantees.
//
// A run is a Script: settings, and faults and orders with their times. Generate makes one from a seed; a script can be
// printed, parsed and played again, and gives the same run. A script that breaks a guarantee is made as short as it can
// be while the same guarantee breaks (Shrink), and told as a story.
//
// What is real: the rules (failover.State.Apply, by which everything is decided), the runner with its performer and
// keeper (switchover.Runner), the detector's rules (probe.Tally) and the evidence on databases (switchover.Memory).
//
// What is modelled, and where: Raft, as far as the rest can feel it, with terms, elections, entries that are lost or
// commit late under the next leader (raft.go); what the leader proposes by itself, after duties.go, fresh.go and
// reports.go of internal/cluster (reign.go); the watchers' looks (eyes.go); programs under their guard, and what goes
// wrong with them (program.go); apps and databases (app.go); clients that write (client.go); people (orders.go); and
// histories that begin anew (history.go). Not played are sockets, files, DNS packets, notifications and processes: other tests have those.
//
// All of it runs in one testing/synctest bubble with one driver (world.go). Whatever the runner wants of the outside
// blocks until the driver answers, one call at a time in an order that the seed decides, and the driver waits for
// quiet in between. So only one goroutine moves at a time.
//
// The guarantees are judged from the outside (check.go, rest.go): from what was committed, from what the apps record of
// every program that touched them, and from what clients were acknowledged.
package sim
