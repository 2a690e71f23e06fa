// Package charts holds the Helm chart, so that `spillway install` needs no files, and renders it as Helm does.
package charts

import (
	"embed"
	"fmt"
	"io/fs"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
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

// Load reads the chart. The caller may change what it gets: each call reads anew.
func Load() (*chart.Chart, error) {
	var all []*loader.BufferedFile
	err := fs.WalkDir(Spillway(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(Spillway(), path)
		if err != nil {
			return err
		}
		all = append(all, &loader.BufferedFile{Name: path, Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	c, err := loader.LoadFiles(all)
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	return c, nil
}
