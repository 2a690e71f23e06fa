package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestTar_ThereAndBack: what pack writes, unpack makes again below another folder.
func TestTar_ThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	want := []byte{0, 1, 0xff, '\n'}
	if err := os.MkdirAll(filepath.Join(from, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "a/b/c"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := pack(&archive, []string{from}); err != nil {
		t.Fatal(err)
	}
	if err := unpack(&archive, to); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(to, from, "a/b/c"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestCalled(t *testing.T) {
	dir := t.TempDir()
	for _, row := range []struct {
		program   string
		args      []string
		known, ok bool
	}{
		{"app", nil, false, true},
		{"test", []string{"-d", dir}, true, true},
		{"test", []string{"-d", dir + "/none"}, true, false},
		{"tar", []string{"t"}, true, false},
	} {
		known, err := called(row.program, row.args)
		if known != row.known || (err == nil) != row.ok {
			t.Errorf("%s %q: %v, %v", row.program, row.args, known, err)
		}
	}
}
