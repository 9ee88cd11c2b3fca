//go:build !crashpoints

package cluster

func faulty(d Disk) Disk { return d }
