package load

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRun: every request is counted once, by who answered, and what fails is named.
func TestRun(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		if n == 7 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "node: n-%d\npod: p\n", n%2)
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	tally, lines := &Tally{}, 0
	tally.Each = func(Second) { lines++ }
	began := time.Now()
	if err := Run(ctx, Options{URL: server.URL, Rate: 100, Timeout: time.Second}, tally); err != nil {
		t.Fatal(err)
	}
	sum := tally.Since(began)
	if total := int(asked.Load()); sum.OK+sum.Failed != total || total < 50 || sum.Failed != 1 || lines < 2 {
		t.Errorf("the server was asked %d times; %d lines say: %s", total, lines, sum)
	}
	if sum.Nodes["n-0"] == 0 || sum.Nodes["n-0"]+sum.Nodes["n-1"] != sum.OK || sum.Pods["p"] != sum.OK {
		t.Errorf("who answered: %v %v", sum.Nodes, sum.Pods)
	}
	if len(sum.Errors) != 1 || !strings.Contains(sum.Errors[0], "503") {
		t.Errorf("errors %q", sum.Errors)
	}
	if after := tally.Since(tally.Last()); after.Seconds != 0 {
		t.Errorf("after the last second there is one: %s", after)
	}
}

func TestTally_RefusesOtherLines(t *testing.T) {
	var tally Tally
	if _, err := tally.Write([]byte("{\"ok\":1}\napp: cannot\n")); err == nil || !strings.Contains(err.Error(), "app: cannot") {
		t.Errorf("got %v", err)
	}
}
