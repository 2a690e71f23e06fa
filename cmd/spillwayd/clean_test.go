package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClean_State(t *testing.T) {
	for name, row := range map[string]struct {
		files []string // there before
		left  string   // what is there afterwards, below the folder above
	}{
		"nothing":             {nil, ""},
		"an empty folder":     {[]string{"spillway/"}, ""},
		"state":               {[]string{"spillway/node.json"}, ""},
		"half written":        {[]string{"spillway/node.json.new"}, ""},
		"somebody else's too": {[]string{"spillway/node.json", "spillway/mine"}, "spillway spillway/mine"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range row.files {
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(file, "/") {
					if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			cleaned := 0
			o := cleanOptions{stateFile: filepath.Join(dir, "spillway", "node.json"), kernel: func(context.Context) error { cleaned++; return nil }}
			for range 2 {
				if err := o.clean(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(below(t, dir), " "); got != row.left || cleaned != 2 {
				t.Errorf("left %q, want %q; kernel cleaned %d times, want 2", got, row.left, cleaned)
			}
		})
	}
}

// TestClean_StateGoesEvenIfTheKernelDoesNot: both are tried, and what fails is told.
func TestClean_StateGoesEvenIfTheKernelDoesNot(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "spillway", "node.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("not permitted")
	o := cleanOptions{stateFile: file, kernel: func(context.Context) error { return refused }}
	if err := o.clean(t.Context()); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	if left := below(t, dir); left != nil {
		t.Errorf("left %q", left)
	}
}

func below(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if name, relErr := filepath.Rel(dir, path); relErr == nil && name != "." {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
