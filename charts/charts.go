// Package charts holds the Helm chart, so that `spillway install` needs no files.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed all:spillway
var files embed.FS

// Spillway is the folder of the chart.
func Spillway() fs.FS {
	sub, err := fs.Sub(files, "spillway")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}
