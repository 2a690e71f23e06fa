package main

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	figures := filepath.Join(t.TempDir(), "figures.json")
	args := []string{"-rounds", "1", "-duration", "100ms", "-count", "20", "-peers", "20", "-idle", "1s", "-idle-peers", "5", "-json", figures}
	if err := run(t.Context(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	for _, want := range append([]string{"Against each other", "5 idle peers", "pod to pod, against wireguard-go pod to pod"}, titles(20)...) {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the table", want)
		}
	}
	if strings.Contains(out.String(), "–") {
		t.Error("something was not measured")
	}
	if data, err := os.ReadFile(figures); err != nil || !strings.Contains(string(data), `"cpuSecondsPerGB"`) {
		t.Errorf("figures: %v, %s", err, data)
	}
}

func titles(peers int) []string {
	r := &result{Peers: peers}
	var out []string
	for _, w := range ways() {
		out = append(out, r.title(w.name))
	}
	return out
}

func TestParse_RefusesWhatCannotBeMeasured(t *testing.T) {
	for _, args := range [][]string{{"-peers", "0"}, {"-peers", "251"}, {"-idle-peers", "300"}, {"-rounds", "-1"}, {"more"}, {"-what"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	o, err := parse([]string{"-quick", "-rounds", "2"}, io.Discard)
	if err != nil || o.rounds != 2 || o.duration.Seconds() != 2 {
		t.Errorf("error %v, options %+v", err, o)
	}
}

func TestRatio_IsTheMedianOfRounds(t *testing.T) {
	r := &result{}
	for round, up := range []float64{1, 2, 30} {
		under := sample{Way: barePods, Round: round}
		under.UpBitsPerSecond = 10
		over := sample{Way: oursPods, Round: round}
		over.UpBitsPerSecond = 10 * up
		r.Samples = append(r.Samples, under, over)
	}
	if got := r.ratio(oursPods, barePods, bits); got != 2 {
		t.Errorf("ratio %v, want 2", got)
	}
	if got := r.ratio(oursPods, fromNode, bits); !math.IsNaN(got) {
		t.Errorf("ratio %v without the other, want none", got)
	}
}

func TestVerdict_JudgesWhatIsPrinted(t *testing.T) {
	for _, row := range []struct {
		v    verdict
		want string
	}{
		{verdict{figure: 0.896, bound: 0.9, least: true}, "ok"}, {verdict{figure: 0.894, bound: 0.9, least: true}, "SHORT"},
		{verdict{figure: 1.004, bound: 1}, "ok"}, {verdict{figure: 1.006, bound: 1}, "SHORT"},
	} {
		if got := row.v.word(); got != row.want {
			t.Errorf("%+v: %s, want %s", row.v, got, row.want)
		}
	}
}

func TestReplaceBlock(t *testing.T) {
	got, err := replaceBlock([]byte("a\n"+docsBegin+"\nold\n"+docsEnd+"\nb\n"), "new\n")
	if want := "a\n" + docsBegin + "\n```\nnew\n```\n" + docsEnd + "\nb\n"; err != nil || string(got) != want {
		t.Errorf("error %v, page %q, want %q", err, got, want)
	}
	if _, err := replaceBlock([]byte("no marks"), ""); err == nil {
		t.Error("no error without marks")
	}
}
