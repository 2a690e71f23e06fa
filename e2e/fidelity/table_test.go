package fidelity

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

// TestShapes_AreAWellFormedTable needs no cluster.
func TestShapes_AreAWellFormedTable(t *testing.T) {
	all := shapes()
	if len(all) < 60 {
		t.Errorf("%d shapes; at least 60 are promised", len(all))
	}
	known := map[string]bool{}
	for _, s := range all {
		if known[s.name] {
			t.Errorf("two shapes are named %s", s.name)
		}
		known[s.name] = true
		pod, err := s.pod(atHome, "node")
		if err != nil {
			t.Error(err)
			continue
		}
		if wrong := validation.IsDNS1123Label(pod.Name); len(wrong) > 0 {
			t.Errorf("shape %s: the pod's name is not a host name: %v", s.name, wrong)
		}
		if len(pod.Spec.Containers) == 0 {
			t.Errorf("shape %s has no containers", s.name)
		}
	}
}

func TestVerdict(t *testing.T) {
	home := view{"phase": "Running", "app: state": "running", "app sees host": "NAME"}
	for name, row := range map[string]struct {
		peer     view
		expected map[string]reason
		want     string // part of the verdict; empty: none
		seen     reason
	}{
		"the same":                  {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME"}},
		"another value":             {peer: view{"phase": "Pending", "app: state": "running", "app sees host": "NAME"}, want: `home "Running"`},
		"nothing to see":            {peer: view{"phase": "Running", "app: state": "running"}, want: `peer "(none)"`},
		"something more":            {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME", "reason": "Evicted"}, want: `home "(none)"`},
		"by design":                 {peer: view{"phase": "Running", "app: state": "running", "app sees host": "x"}, expected: map[string]reason{"app sees host": hostDomain}, seen: hostDomain},
		"by design, but the same":   {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME"}, expected: map[string]reason{"app sees host": hostDomain}, want: "does not differ"},
		"requests of zero":          {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME", "app: allocated": `{"cpu":"0","memory":"0"}`}, seen: zeroRequests},
		"requests, but not of zero": {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME", "app: allocated": `{"cpu":"1","memory":"0"}`}, want: "app: allocated"},
		"another mount":             {peer: view{"phase": "Running", "app: state": "running", "app sees host": "NAME", "app: mount /etc": ""}, want: "mount /etc"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[reason]bool{}
			got := verdict(home, row.peer, row.expected, seen)
			if row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("got %q, want it to say %q", got, row.want)
			}
			if row.seen != "" && !seen[row.seen] {
				t.Errorf("%q was not noted", row.seen)
			}
		})
	}
}
