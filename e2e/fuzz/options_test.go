package fuzz

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// options say which pods are made.
type options struct {
	seed uint64
	pods uint64
}

func TestMain(m *testing.M) {
	flag.Uint64("seed", rand.Uint64N(1_000_000), "makes the pods; another one for each run if not given")
	flag.Uint64("pods", 3000, "how many pods are made")
	flag.String("pod", "", "the number of the pod that TestOne prints")
	flag.Parse()
	os.Exit(m.Run())
}

// theOptions returns what the flags say, and tells how to get the same pods again.
func theOptions(t *testing.T) options {
	t.Helper()
	o := options{seed: number(t, "seed"), pods: number(t, "pods")}
	t.Logf("the same again: go test -v -run '^%s$' ./e2e/fuzz -args -seed %d -pods %d", t.Name(), o.seed, o.pods)
	return o
}

func number(t *testing.T, name string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(flag.Lookup(name).Value.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestOne prints one pod and its twin.
func TestOne(t *testing.T) {
	if flag.Lookup("pod").Value.String() == "" {
		t.Skip("prints the pod that -pod names")
	}
	i := number(t, "pod")
	local := newPod(theOptions(t).seed, i)
	for _, pod := range []any{local, translate.Twin(local, env(i))} {
		text, err := yaml.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", text)
	}
}
