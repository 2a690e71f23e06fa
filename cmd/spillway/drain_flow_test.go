package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// withPods peers home with cloud and puts pods of ReplicaSet web-7 on the virtual node.
func withPods(t *testing.T, pods int) *pair {
	p := withShop(t)
	for i := range pods {
		p.addPod(fmt.Sprintf("web-7-%02d", i), "web-7")
	}
	return p
}

// govern has a policy govern the pods of namespace shop.
func (p *pair) govern(spec map[string]any, status map[string]any) {
	p.home.put("/apis/spillway.dev/v1alpha1/namespaces/shop/offloadpolicies/web", map[string]any{
		"metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": spec, "status": status})
}

func (p *pair) left() (pods int) {
	for _, path := range p.home.paths() {
		if strings.Contains(path, "/pods/") {
			pods++
		}
	}
	return pods
}

func TestDrain_EvictsUnderBudgets(t *testing.T) {
	p := withPods(t, 12)
	p.home.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/web-pdb", map[string]any{"metadata": map[string]any{"name": "web-pdb", "namespace": "shop"}, "spec": map[string]any{"selector": map[string]any{}}})
	asked := 0
	p.home.budget = func(string, int) bool { asked++; return asked == 3 } // the third question comes too early
	out := p.must(t, "drain", "cloud", "--max-concurrent", "2")
	for _, want := range []string{"12 pods will go", "✓ node spillway-cloud is cordoned", "✓ the pods are gone", "12 pods went", "spillway uncordon cloud"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	writes := p.home.written()
	if n := p.left(); n != 0 || !slices.Contains(writes, "PATCH /api/v1/nodes/spillway-cloud") || slices.IndexFunc(writes, evicted) < slices.Index(writes, "PATCH /api/v1/nodes/spillway-cloud") {
		t.Errorf("%d pods are left; written: %v", n, writes)
	}
	if out := p.must(t, "uncordon", "cloud"); !strings.Contains(out, "✓ node spillway-cloud is open") {
		t.Error(out)
	}
	if out := p.must(t, "uncordon", "cloud"); !strings.Contains(out, unchanged) {
		t.Error(out)
	}
}

func evicted(write string) bool { return strings.HasPrefix(write, "EVICT") }

func TestDrain_SaysWhatHolds(t *testing.T) {
	p := withPods(t, 3)
	p.home.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/web-pdb", map[string]any{"metadata": map[string]any{"name": "web-pdb", "namespace": "shop"}, "spec": map[string]any{"selector": map[string]any{}}})
	p.home.budget = func(_ string, evictions int) bool { return evictions == 1 }
	code, out, errs := p.run(t, "drain", "cloud", "--timeout", "1s", "-o", "json")
	if code != exitFailed || !strings.Contains(errs, "is not empty after 1s: 1 of 3 gone; 2 wait for budget web-pdb.") || !strings.Contains(errs, "The peer stays closed") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	var result moveOutcome
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	if d := result.Drain; d == nil || d.Pods != 3 || d.Gone != 1 || len(d.Waiting) != 2 {
		t.Errorf("result: %s", out)
	}
}

func TestDrain_Refuses(t *testing.T) {
	always := map[string]any{"when": "Always"}
	for name, row := range map[string]struct {
		prepare func(*pair)
		args    []string
		code    int
		want    []string
		pods    int // left
	}{
		"a pod without a controller": {prepare: func(p *pair) { p.addPod("bare", "") }, args: []string{"drain", "cloud"}, code: 1, want: []string{"1 pod on cloud would be lost", "shop/bare", "--force"}, pods: 2},
		"one, by force":              {prepare: func(p *pair) { p.addPod("bare", "") }, args: []string{"drain", "cloud", "--force"}, want: []string{"1 pod without a controller will be lost: shop/bare"}},
		"nowhere to go":              {prepare: func(p *pair) { p.govern(always, nil) }, args: []string{"drain", "cloud"}, code: 1, want: []string{"could go nowhere but to cloud", "OffloadPolicy web", "--force"}, pods: 1},
		"nowhere, by force":          {prepare: func(p *pair) { p.govern(always, nil) }, args: []string{"drain", "cloud", "--force"}, want: []string{"The next shop/web-7-00 would stay Pending"}},
		"a bursting policy":          {prepare: func(p *pair) { p.govern(map[string]any{"when": "Burst"}, nil) }, args: []string{"drain", "cloud"}, want: []string{"1 pod went"}},
		"dry run":                    {args: []string{"drain", "cloud", "--dry-run"}, want: []string{"1 pod will go", "nothing was changed"}, pods: 1},
		"no such peer":               {args: []string{"drain", "clout"}, code: 1, want: []string{`no peer "clout"`, "There are: cloud."}, pods: 1},
		"a peer that lends nothing":  {args: []string{"drain", "home", "--context", "cloud"}, code: 1, want: []string{"only shares"}, pods: 1},
		"cordon of no peer":          {args: []string{"cordon", "clout"}, code: 1, want: []string{`no peer "clout"`}, pods: 1},
		"two peers":                  {args: []string{"cordon", "a", "b"}, code: 2, want: []string{"one peer, but got 2"}, pods: 1},
		"bad name":                   {args: []string{"uncordon", "A_B"}, code: 2, want: []string{`PEER "A_B"`}, pods: 1},
		"nothing at once":            {args: []string{"drain", "cloud", "--max-concurrent", "0"}, code: 2, want: []string{"lets nothing go"}, pods: 1},
		"no time":                    {args: []string{"drain", "cloud", "--timeout", "0s"}, code: 2, want: []string{"not a time to wait"}, pods: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := withPods(t, 1)
			if row.prepare != nil {
				row.prepare(p)
			}
			code, out, errs := p.run(t, row.args...)
			if code != row.code || p.left() != row.pods {
				t.Errorf("exit %d, want %d; %d pods left, want %d\n%s%s", code, row.code, p.left(), row.pods, out, errs)
			}
			for _, want := range row.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("output lacks %q:\n%s%s", want, out, errs)
				}
			}
			if row.pods > 0 {
				checkUnwritten(t, p)
			}
		})
	}
}

func TestRepatriate_FollowsPodsHome(t *testing.T) {
	p := withPods(t, 3)
	p.govern(map[string]any{"when": "Burst"}, nil)
	c := p.open(t, "home")
	go func() { // stands in for spillwayd
		ctx := t.Context()
		_ = follow(ctx, policiesOf(c), named("web"), func(found map[string]*v1alpha1.OffloadPolicy) bool {
			if found["shop/web"].Annotations[v1alpha1.AnnotationRepatriate] == "" {
				return false
			}
			for i := range 3 {
				p.home.drop(fmt.Sprintf("/api/v1/namespaces/shop/pods/web-7-%02d", i))
			}
			return true
		})
	}()
	out := p.must(t, "repatriate", "-n", "shop")
	for _, want := range []string{"✓ OffloadPolicy shop/web is asked", "✓ the pods are home", "3 pods came home"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if wrote := p.wrote("offloadpolicies"); len(wrote) != 1 {
		t.Errorf("written: %v", wrote)
	}
}

func TestRepatriate_BadInput(t *testing.T) {
	held := map[string]any{"conditions": []any{map[string]any{"type": v1alpha1.ConditionComingHome, "status": "False", "reason": "NoRoom", "message": "home has room for none: 200m CPU is free, each needs 500m"}}}
	for name, row := range map[string]struct {
		spec map[string]any
		args []string
		code int
		want []string
	}{
		"some stay":       {map[string]any{"when": "Burst"}, []string{"-n", "shop", "--timeout", "1s"}, 1, []string{"0 of 2 pods came home", "there stay 2 pods of shop/web: home has room for none: 200m CPU is free", "The wish stays"}},
		"not waited for":  {map[string]any{"when": "Burst"}, []string{"-n", "shop", "--no-wait"}, 0, []string{"They come home by themselves"}},
		"does not burst":  {map[string]any{"when": "Always"}, []string{"web", "-n", "shop"}, 1, []string{`the OffloadPolicy "web" does not burst (when: Always)`}},
		"none bursts":     {map[string]any{"when": "Always"}, []string{"-n", "shop"}, 1, []string{`no OffloadPolicy of namespace "shop" bursts`, "--all-namespaces"}},
		"no such policy":  {map[string]any{"when": "Burst"}, []string{"wep", "-n", "shop"}, 1, []string{`no OffloadPolicy "wep"`, "There are: web."}},
		"both namespaces": {map[string]any{"when": "Burst"}, []string{"-n", "shop", "-A"}, 2, []string{"all policies of all namespaces"}},
		"bad name":        {map[string]any{"when": "Burst"}, []string{"Web"}, 2, []string{`"Web" cannot be the name`}},
		"no time":         {map[string]any{"when": "Burst"}, []string{"--timeout", "-1s"}, 2, []string{"not a time to wait"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := withPods(t, 2)
			p.govern(row.spec, held)
			code, out, errs := p.run(t, append([]string{"repatriate"}, row.args...)...)
			if code != row.code {
				t.Errorf("exit %d, want %d\n%s%s", code, row.code, out, errs)
			}
			for _, want := range row.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("output lacks %q:\n%s%s", want, out, errs)
				}
			}
		})
	}
}

// policiesOf is about the OffloadPolicies of c.
func policiesOf(c *cluster) source[*v1alpha1.OffloadPolicy] {
	policies := c.policies(metav1.NamespaceAll)
	return source[*v1alpha1.OffloadPolicy]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*v1alpha1.OffloadPolicy, string, error) {
			list, err := policies.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: policies.Watch,
	}
}
