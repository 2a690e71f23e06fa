package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spillway-dev/spillway/e2e/bench/figures"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		os.Exit(childMain())
	}
	os.Exit(m.Run())
}

// TestRun_MeasuresEverything runs the whole for moments: figures of so short a time say nothing.
func TestRun_MeasuresEverything(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"-rounds", "1", "-duration", "200ms", "-idle", "1s", "-idle-peers", "10"}, &out); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	if lines := strings.Count(out.String(), "\n"); lines != 5 {
		t.Errorf("%d lines, want 5", lines)
	}
}

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		if got := figures.Median(values); got != want {
			t.Errorf("median of %v: %v, want %v", values, got, want)
		}
	}
}
