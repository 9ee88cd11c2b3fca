// Package proctest shows the guarantees with real processes: watchers as they are shipped, apps that are killed and
// frozen, name servers that are asked over the wire.
//
// The tests are in the test files, one file for each theme; each test is named after the rule that it shows. What is
// compiled here is the stage on which they play: apps with a maintenance switch and a database kept in files, and hooks.
// Everything on the stage writes what it does into two files, in the order in which it happened, so that a test can
// judge afterwards whether two apps were ever open, or two databases writable, and whose hands it was.
//
// The tests whose names begin with TestHosts put each watcher, each app and a visitor on a host of its own, which is a
// network namespace, and let hosts lose packets; see lab. There the databases are reached over the network and no other
// way, and the watchers speak TLS. Such tests need root, be it of a user namespace, and the tools ip and iptables.
//
// A stage program can also spring a trap: at a named point of its work it kills or freezes the watcher that started it.
// That is how a leader is made to die inside a hook, each time at the same place.
package proctest
