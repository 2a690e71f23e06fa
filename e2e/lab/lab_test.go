package lab

import (
	"os"
	"testing"
	"time"
)

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) { w.t.Logf("%s", p); return len(p), nil }

func TestLab_TwoClusters(t *testing.T) {
	begun := time.Now()
	l, err := Up(t.Context(), Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up in %s", time.Since(begun))
	begun = time.Now()
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("down in %s", time.Since(begun))
}
