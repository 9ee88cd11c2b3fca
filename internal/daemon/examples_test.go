package daemon

import "testing"

// The examples' files are ones that `watchover run` takes. What they name is made by the example's script.
func TestExamplesAreValid(t *testing.T) {
	for _, file := range []string{"../../examples/mariadb/watchover.yaml", "../../examples/redis/watchover.yaml"} {
		if _, err := LoadConfig(file); err != nil {
			t.Error(err)
		}
	}
}
