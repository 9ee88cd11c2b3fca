package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set by the linker (-X main.Version=...); see version for what holds without it.
var Version string

// defaultVersion is the release that this source leads to.
const defaultVersion = "0.1.0"

// version is the linker's, else the module's if it was installed by version, else the source's.
func version() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version[0] != 'v' || setting(info, "vcs.revision") != "" {
		return defaultVersion // built from a working tree, whose pseudo-version tells less than the revision does
	}
	return info.Main.Version[1:]
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

func versionCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Version of this program", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			text := "watchover " + version()
			if info, ok := debug.ReadBuildInfo(); ok {
				if revision := setting(info, "vcs.revision"); len(revision) >= 12 {
					text += " revision " + revision[:12]
					if setting(info, "vcs.modified") == "true" {
						text += " with changes"
					}
				}
			}
			_, err := fmt.Fprintf(u.out, "%s %s %s/%s\n", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
