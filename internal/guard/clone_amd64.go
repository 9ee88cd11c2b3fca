package guard

// cloned is a launcher whose child shares the guard's memory, as that of vfork does, while the guard goes on: nothing is
// copied, neither when it is made nor when the guard writes.
func cloned(ops []op, errno *uint32) int

// usual is how this architecture starts programs.
var usual launcher = cloned
