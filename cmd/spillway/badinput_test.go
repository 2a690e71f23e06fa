package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput: a sentence on what is wrong, one on what to do, the right exit code, and nothing is written.
func TestBadInput(t *testing.T) {
	peerCloud := []string{"peer", "--remote-context", "cloud"}
	tests := map[string]struct {
		prepare func(*testing.T, *pair)
		args    []string
		code    int
		want    []string // in stderr
	}{
		"unknown context":        {args: []string{"peer", "--context", "hom", "--remote-context", "cloud"}, code: 1, want: []string{`no context "hom"`, "Known contexts: Cloud_2, cloud, dead, expired, home."}},
		"unknown remote context": {args: []string{"peer", "--remote-context", "nowhere"}, code: 1, want: []string{`no context "nowhere"`, "Nothing was changed."}},
		"no kubeconfig":          {args: []string{"peer", "--remote-context", "cloud", "--remote-kubeconfig", "/does/not/exist"}, code: 1, want: []string{"there is no kubeconfig file /does/not/exist"}},
		"unreachable provider":   {args: []string{"peer", "--remote-context", "dead"}, code: 1, want: []string{`the provider (context "dead") at https://127.0.0.1:1 does not answer`, "connection refused", "Nothing was changed."}},
		"unreachable consumer":   {args: []string{"status", "--context", "dead"}, code: 1, want: []string{"https://127.0.0.1:1 does not answer"}},
		"expired token":          {args: []string{"peer", "--remote-context", "expired"}, code: 1, want: []string{"does not accept your credential", "Log in again", "Nothing was changed."}},
		"itself":                 {args: []string{"peer", "--context", "cloud", "--remote-context", "Cloud_2"}, code: 1, want: []string{"cannot be peered with itself", "id-cloud"}},
		"no CRDs at provider":    {prepare: func(_ *testing.T, p *pair) { p.cloud.noCRDs = true }, args: peerCloud, code: 1, want: []string{"CRDs are not installed in the provider", "spillway install --context"}},
		"no CRDs for status":     {prepare: func(_ *testing.T, p *pair) { p.home.noCRDs = true }, args: []string{"status"}, code: 1, want: []string{"CRDs are not installed"}},
		"too few rights":         {prepare: func(_ *testing.T, p *pair) { p.cloud.deny("create peerings", "get secrets") }, args: peerCloud, code: 1, want: []string{"too few rights in the provider", "- create peerings.spillway.dev", "- get secrets", "Nothing was changed."}},
		"no controller":          {args: peerCloud, code: 1, want: []string{"no spillwayd controller is running in the consumer", "spillway install --context"}},
		"second peering":         {prepare: peered, args: []string{"peer", "--remote-context", "cloud", "--name", "other"}, code: 1, want: []string{`already peered with that cluster, under the name "cloud"`, "Nothing was changed."}},
		"second alias":           {prepare: peered, args: []string{"peer", "--remote-context", "Cloud_2"}, code: 1, want: []string{`already peered`, "--name cloud"}},
		"name of another":        {prepare: foreignPeering, args: peerCloud, code: 1, want: []string{`already has a Peering "cloud", with another cluster`}},
		"foreign node":           {prepare: foreignNode, args: peerCloud, code: 1, want: []string{`already a node "spillway-cloud"`, "--node-name"}},
		"foreign secret":         {prepare: foreignSecret, args: peerCloud, code: 1, want: []string{"that is not Spillway's"}},
		"renamed node":           {prepare: peered, args: append(peerCloud, "--node-name", "far"), code: 1, want: []string{"cannot be changed", "--node-name"}},
		"unknown tunnel mode":    {args: append(peerCloud, "--tunnel", "yes"), code: 2, want: []string{`--tunnel "yes" is not a mode`, "Use Tunnel, External or Off."}},
		"unknown way to API":     {args: append(peerCloud, "--api-via", "air"), code: 2, want: []string{`--api-via "air"`, "Use direct or tunnel."}},
		"endpoint without port":  {args: append(peerCloud, "--endpoint", "203.0.113.7"), code: 2, want: []string{`--endpoint "203.0.113.7" is not an endpoint`, "51820"}},
		"API via no tunnel":      {prepare: peered, args: append(peerCloud, "--api-via", "tunnel"), code: 1, want: []string{"there is no tunnel for --api-via tunnel", "--tunnel Tunnel"}},
		"endpoint of no tunnel":  {prepare: peered, args: append(peerCloud, "--endpoint", "auto"), code: 1, want: []string{"there is no tunnel for the endpoints"}},
		"neither is reachable":   {prepare: peered, args: append(peerCloud, "--tunnel", "Tunnel", "--endpoint", "none", "--remote-endpoint", "none"), code: 1, want: []string{"neither cluster is to be reachable"}},
		"not peered":             {args: []string{"unpeer"}, code: 1, want: []string{"is not peered with any cluster", "Nothing was changed."}},
		"no such peering":        {prepare: peered, args: []string{"unpeer", "other"}, code: 1, want: []string{`has no Peering "other"`, "There are: cloud."}},
		"unpeer wrong remote":    {prepare: peered, args: []string{"unpeer", "--context", "home", "--remote-context", "expired"}, code: 1, want: []string{"does not accept your credential"}},
		"status of nothing":      {args: []string{"status", "cloud"}, code: 1, want: []string{`has no Peering "cloud"`, "spillway peer"}},
		"unpeer too few rights":  {prepare: func(t *testing.T, p *pair) { peered(t, p); p.home.deny("delete peerings") }, args: []string{"unpeer"}, code: 1, want: []string{"- delete peerings.spillway.dev"}},
		"borrows nothing":        {prepare: peered, args: []string{"unpeer", "--context", "cloud", "home", "--borrow-only"}, code: 1, want: []string{"borrows nothing"}},
		"percent":                {args: append(peerCloud, "--share", "101"), code: 2, want: []string{`--share "101" is not a percentage`}},
		"name":                   {args: append(peerCloud, "--name", "Big_Cloud"), code: 2, want: []string{`--name "Big_Cloud" cannot be`}},
		"long name":              {args: append(peerCloud, "--consumer-name", strings.Repeat("a", 41)), code: 2, want: []string{"at most 40"}},
		"label":                  {args: append(peerCloud, "--node-labels", "a=b c"), code: 2, want: []string{`"b c" is not a valid value`}},
		"resource":               {args: append(peerCloud, "--share-resources", "cpu=lots"), code: 2, want: []string{`"lots" is not an amount of cpu`}},
		"duration":               {args: append(peerCloud, "--timeout", "60"), code: 2, want: []string{`--timeout "60" is not a time`}},
		"negative duration":      {args: append(peerCloud, "--timeout", "-1s"), code: 2, want: []string{"is not a time to wait"}},
		"pod security":           {args: append(peerCloud, "--pod-security", "lax"), code: 2, want: []string{"privileged, baseline or restricted"}},
		"ingress class":          {args: append(peerCloud, "--ingress-class", "Nginx"), code: 2, want: []string{`--ingress-class "Nginx" cannot be`}},
		"server":                 {args: append(peerCloud, "--remote-server", "1.2.3.4:6443"), code: 2, want: []string{"is not an https address"}},
		"output":                 {args: append(peerCloud, "-o", "wide"), code: 2, want: []string{"Use json, yaml."}},
		"no remote":              {args: []string{"peer"}, code: 2, want: []string{"--remote-context NAME"}},
		"unknown command":        {args: []string{"per"}, code: 2, want: []string{`no command "per"`}},
		"unknown flag":           {args: []string{"peer", "--shar"}, code: 2, want: []string{"unknown flag: --shar", "peer --help"}},
		"argument too many":      {args: []string{"peer", "cloud"}, code: 2, want: []string{`takes no argument, but got "cloud"`}},
		"two names":              {args: []string{"unpeer", "a", "b"}, code: 2, want: []string{"at most one name"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			if test.prepare != nil {
				test.prepare(t, p)
			}
			p.home.written()
			p.cloud.written()
			code, out, errs := p.run(t, test.args...)
			if code != test.code {
				t.Errorf("exit %d, want %d\n%s%s", code, test.code, out, errs)
			}
			for _, want := range test.want {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr lacks %q:\n%s", want, errs)
				}
			}
			checkUnwritten(t, p)
		})
	}
}

func TestBadInput_UnreadableKubeconfig(t *testing.T) {
	p := newPair(t)
	p.kubeconfig = filepath.Dir(p.kubeconfig)
	code, _, errs := p.run(t, "status")
	if code != exitFailed || !strings.Contains(errs, "cannot be read") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// peered runs controllers and peers home with cloud.
func peered(t *testing.T, p *pair) {
	p.runControllers(t)
	p.must(t, "peer", "--remote-context", "cloud")
}

func foreignPeering(t *testing.T, p *pair) {
	p.runControllers(t)
	p.home.put("/apis/spillway.dev/v1alpha1/peerings/cloud", map[string]any{"metadata": map[string]any{"name": "cloud"}, "spec": map[string]any{"clusterID": "id-third"}})
}

func foreignNode(t *testing.T, p *pair) {
	p.runControllers(t)
	p.home.put("/api/v1/nodes/spillway-cloud", map[string]any{"metadata": map[string]any{"name": "spillway-cloud"}})
}

func foreignSecret(t *testing.T, p *pair) {
	p.runControllers(t)
	p.home.put("/api/v1/namespaces/spillway-system/secrets/peering-cloud", map[string]any{"metadata": map[string]any{"name": "peering-cloud"}})
}
