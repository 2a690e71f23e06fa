package main

import (
	"os"
	"testing"
)

func TestReadOnlyPart(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-02209000 r-xp 00000000 00:2f 1234   /spillwayd":           true,
		"02209000-045ec000 r--p 01e09000 00:2f 1234   /spillwayd":           true,
		"045ec000-046aa000 rw-p 041ec000 00:2f 1234   /spillwayd":           false,
		"046aa000-066f1000 rw-p 00000000 00:00 0":                           false,
		"7f0000000000-7f0000001000 r--p 00000000 00:2f 9   /usr/lib/x.so":   false,
		"7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0   [vdso]":          false,
		"00400000-02209000 r-xp 00000000 00:2f 1234   /spillwayd (deleted)": true,
	} {
		from, to, ok := readOnlyPart(line, "/spillwayd")
		if ok != want || ok && (from >= to || from&4095 != 0) {
			t.Errorf("%s: %x-%x %t", line, from, to, ok)
		}
	}
}

// TestUnmapProgram: the process goes on, and reads the same.
func TestUnmapProgram(t *testing.T) {
	before := readOnlyText()
	if err := unmapProgram(); err != nil {
		t.Fatal(err)
	}
	if readOnlyText() != before {
		t.Error("another program")
	}
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Error(err)
	}
}

func readOnlyText() string { return controllerCommand().Long }
