package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be the owner that up starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// labCommand runs the command and returns what it prints.
func labCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Setenv("SPILLWAY_LAB_DIR", t.TempDir()) // no other labs to see
	must := func(args ...string) string {
		t.Helper()
		out, err := labCommand(t, args...)
		if err != nil {
			t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if out, err := labCommand(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lab %s: got %v, want %q\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	fails("lab up", "down")
	out := must("up", "--name", "one", "--clusters", "c", "--nodes", "1")
	t.Cleanup(func() { _, _ = labCommand(t, "down", "one") })
	if !strings.Contains(out, "export KUBECONFIG=") || !strings.Contains(out, "ready after") {
		t.Errorf("up says:\n%s", out)
	}
	fails("runs already", "up", "--name", "one")
	fails("no cluster", "cut", "d")
	fails("unknown way to cut", "cut", "c", "--mode", "half")
	fails("no component or node", "kill", "c", "nonesuch")
	must("cut", "c", "--mode", "blackhole")
	if out := must("status"); !strings.Contains(out, "cut (blackhole)") {
		t.Errorf("status says:\n%s", out)
	}
	must("restore", "c")
	must("slow", "c", "--rtt", "10ms")
	must("restart", "c", "kube-scheduler")
	var status []labStatus
	if err := json.Unmarshal([]byte(must("status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status) != 1 || !status[0].Alive || len(status[0].Live) != 1 || len(status[0].Live[0].Components) != 5 {
		t.Errorf("status: %+v", status)
	}
	if out := must("requests", "c"); !strings.Contains(out, "nodes") {
		t.Errorf("requests says:\n%s", out)
	}
	must("down")
	fails("no such lab", "down", "one")
}

func TestUpOptions(t *testing.T) {
	o := upOptions{name: "demo", clusters: []string{"a"}, nodes: 1, real: 2, cpu: "8", memory: "32Gi", pods: "10",
		labels: []string{"pool=gpu"}, taints: []string{"gpu=yes:NoSchedule", "alone:NoExecute"}}
	opts, word, err := o.labOptions(false)
	if err != nil {
		t.Fatal(err)
	}
	c := opts.Clusters[0]
	if c.Real != 0 || c.Simulated[0].Count != 3 || !strings.Contains(word, "need root") {
		t.Errorf("without root: %+v, said %q", c, word)
	}
	want := []corev1.Taint{
		{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule},
		{Key: "alone", Effect: corev1.TaintEffectNoExecute},
	}
	if diff := cmp.Diff(want, c.Simulated[0].Taints); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if opts, word, _ := o.labOptions(true); opts.Clusters[0].Real != 2 || word != "" {
		t.Errorf("as root: %+v, said %q", opts, word)
	}
	for name, change := range map[string]func(*upOptions){
		"--cpu":   func(o *upOptions) { o.cpu = "lots" },
		"--label": func(o *upOptions) { o.labels = []string{"x"} },
		"--taint": func(o *upOptions) { o.taints = []string{"x=y:Sometimes"} },
	} {
		bad := o
		change(&bad)
		if _, _, err := bad.labOptions(true); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTakeLab(t *testing.T) {
	for _, row := range []struct{ args, name, rest string }{
		{"--lab x get nodes", "x", "get nodes"},
		{"--lab=x get", "x", "get"},
		{"get --lab=x", "", "get --lab=x"},
		{"", "", ""},
	} {
		name, rest := takeLab(strings.Fields(row.args))
		if name != row.name || strings.Join(rest, " ") != row.rest {
			t.Errorf("%q: %q %q", row.args, name, rest)
		}
	}
}
