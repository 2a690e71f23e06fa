package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/e2e/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestParse(t *testing.T) {
	for name, row := range map[string]struct {
		args string
		says string // part of the complaint; empty: none
	}{
		"nothing":                  {"", ""},
		"other numbers":            {"-n 5,7 -rounds 1 -rtt 20ms", ""},
		"clusters that exist":      {"-consumer-context a -provider-context b -node n", ""},
		"no number":                {"-n ten", "give numbers of pods"},
		"no pods":                  {"-n 0,10", "give numbers of pods"},
		"no time":                  {"-rtt 50", "give times like"},
		"no rounds":                {"-rounds 0", "at least 1"},
		"a node but no clusters":   {"-node n", "give -consumer-context"},
		"an argument":              {"now", "too much"},
		"a flag that is not there": {"-fast", "not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			_, err := parse(strings.Fields(row.args), &said)
			if (err != nil) != (row.says != "") || !strings.Contains(said.String(), row.says) {
				t.Errorf("error %v, said %q, want %q", err, said.String(), row.says)
			}
		})
	}
}

func TestParse_QuickYieldsToWhatIsGiven(t *testing.T) {
	o, err := parse([]string{"-quick", "-n", "1000,3"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{3, 1000}, o.pods); diff != "" || o.rounds != 1 || o.audit || len(o.rtts) != 1 {
		t.Errorf("options %+v (-want +got):\n%s", o, diff)
	}
}

func TestJobs_TakeTurns(t *testing.T) {
	o := options{pods: []int{10, 100}, rtts: []time.Duration{0, time.Second}}
	for round, want := range [][]job{
		{{plain, 10, 0}, {floor, 10, 0}, {spillway, 10, 0}, {plain, 100, 0}, {floor, 100, 0}, {spillway, 100, 0}, {spillway, 100, time.Second}},
		{{floor, 10, 0}, {spillway, 10, 0}, {plain, 10, 0}, {floor, 100, 0}, {spillway, 100, 0}, {spillway, 100, time.Second}, {plain, 100, 0}},
	} {
		if diff := cmp.Diff(want, jobs(o, round), cmp.AllowUnexported(job{})); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
	}
}

func newTestTally() *tally {
	return &tally{pods: map[types.UID]seen{}, ready: map[string]int{}, present: map[string]int{}}
}

func TestTally_WaitsForItsOwnLoad(t *testing.T) {
	tl := newTestTally()
	tl.set("1", seen{plain, true})
	tl.set("2", seen{floor, true})
	tl.set("3", seen{plain, false})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tl.waitReady(ctx, plain, 2); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 pods of the load plain are there, 1 of them Ready") {
		t.Errorf("a pod that is not Ready was counted: %v", err)
	}
	tl.set("3", seen{plain, true})
	if _, err := tl.waitReady(t.Context(), plain, 2); err != nil {
		t.Error(err)
	}
	tl.set("3", seen{plain, false})
	if tl.ready[plain] != 1 || tl.present[plain] != 2 {
		t.Errorf("a pod that is Ready no more is still counted: %v", tl.ready)
	}
}

func TestCountWrites(t *testing.T) {
	request := func(client, verb, resource, subresource string, code int) lab.RequestCount {
		return lab.RequestCount{Count: 2, RequestKey: lab.RequestKey{
			Client: client, Verb: verb, Resource: resource, Subresource: subresource, Code: code}}
	}
	got := countWrites([]lab.RequestCount{
		request("spillwayd", "create", "pods", "", 201),
		request("spillwayd", "patch", "pods", "status", 200),
		request("spillwayd", "delete", "pods", "", 404),
		request("spillwayd", "update", "leases", "", 200),
		request("spillwayd", "get", "pods", "", 200),
		request("kubectl", "create", "pods", "", 201),
	}, "spillwayd")
	want := map[string]int64{"create pods": 2, "patch pods/status": 2, "delete pods (404)": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if n := countOf(got, "delete pods"); n != 2 {
		t.Errorf("a refused delete counts %d times, want 2", n)
	}
}

func TestReplaceBlock(t *testing.T) {
	page := "# A\n" + docsBegin + "\nold\n" + docsEnd + "\nafter\n"
	got, err := replaceBlock([]byte(page), "new\n")
	want := "# A\n" + docsBegin + "\n```\nnew\n```\n" + docsEnd + "\nafter\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := replaceBlock([]byte("# A\n"), "new"); err == nil {
		t.Error("a page without the marks was taken")
	}
}

// TestDocsPage_HasTheMarks keeps -write-docs working.
func TestDocsPage_HasTheMarks(t *testing.T) {
	page, err := os.ReadFile("../../" + docsPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceBlock(page, ""); err != nil {
		t.Error(err)
	}
}

func TestRender_Golden(t *testing.T) {
	const golden = "testdata/report.txt"
	got := render(exampleResult())
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("report (-want +got), -update writes it anew:\n%s", diff)
	}
}

// exampleResult has round figures.
func exampleResult() *result {
	r := &result{
		Date: time.Date(2030, 1, 2, 3, 4, 0, 0, time.UTC), TookSeconds: 500, Machine: machine{Cores: 2, MemoryGiB: 24, Kernel: "6.1.0"},
		Spillway: "0123456", Kubernetes: "1.36.3", Go: "go1.26", Rounds: 2, Pods: []int{10, 1000}, RoundTrips: []float64{0, 50},
		OnePodSeconds: map[string][]float64{plain: {0.012, 0.014}, spillway: {0.025, 0.03}},
		PeakRSSMiB:    &memory{70, 41},
		Own: &ownWrites{1000,
			map[string]int64{"patch pods/status": 1100, "delete pods": 1000, "delete pods (404)": 10}, map[string]int64{"create pods": 1000, "delete pods": 1000}},
	}
	use := func(n float64) *costs {
		c := cost{map[string]int64{"create pods": int64(4 * n)}, map[string]float64{lab.Spillwayd: n / 800, lab.APIServer: n / 100, lab.Etcd: n / 1000}}
		return &costs{c, c}
	}
	for round := range 2 {
		for _, n := range r.Pods {
			for i, load := range []string{plain, floor, spillway} {
				seconds := float64(n*(i+1)*(round+1)) / 200
				r.Samples = append(r.Samples, sample{Load: load, Pods: n, Round: round + 1, ReadySeconds: seconds, GoneSeconds: seconds / 2,
					OtherCores: 0.2, Start: use(float64(n)), Whole: use(float64(2 * n)), RSSMiB: &memory{60, 40}})
			}
		}
		r.Samples = append(r.Samples, sample{Load: spillway, Pods: 1000, RoundTripMs: 50, Round: round + 1, ReadySeconds: 17, GoneSeconds: 9})
	}
	return r
}
