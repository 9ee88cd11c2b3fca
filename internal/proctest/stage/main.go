// Command stage is everything that the process tests need beside watchers; see package proctest.
package main

import (
	"os"

	"github.com/watchover-ha/watchover/internal/proctest"
)

func main() { os.Exit(proctest.Play(os.Args[1:])) }
