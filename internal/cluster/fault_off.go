//go:build !crashpoints

package cluster

func faulty(d disk) disk { return d }
