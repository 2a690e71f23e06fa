package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const migrationsPath = "/apis/spillway.dev/v1alpha1/namespaces/shop/migrations/"

// withShop peers home with cloud and puts workloads into namespace shop of home.
func withShop(t *testing.T) *pair {
	p := newPair(t)
	peered(t, p)
	p.home.put("/api/v1/namespaces/shop", map[string]any{"metadata": map[string]any{"name": "shop"}})
	pods := map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "web"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "web", "envFrom": []any{map[string]any{"configMapRef": map[string]any{"name": "settings"}}}}}}}
	selector := map[string]any{"matchLabels": map[string]any{"app": "web"}}
	p.home.put("/apis/apps/v1/namespaces/shop/deployments/web", stored("shop", "web", map[string]any{"tier": "front"}, map[string]any{"spec": map[string]any{"replicas": 10, "selector": selector, "template": pods}}))
	p.home.put("/apis/apps/v1/namespaces/shop/statefulsets/queue", stored("shop", "queue", nil, map[string]any{"spec": map[string]any{"replicas": 3, "selector": selector, "template": pods}}))
	p.home.put("/apis/apps/v1/namespaces/shop/statefulsets/db", stored("shop", "db", nil, map[string]any{"spec": map[string]any{"replicas": 1, "template": pods,
		"volumeClaimTemplates": []any{map[string]any{"metadata": map[string]any{"name": "data"}}}}}))
	p.home.put("/apis/batch/v1/namespaces/shop/cronjobs/report", stored("shop", "report", nil, map[string]any{"spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": pods}}}}))
	p.home.put("/api/v1/namespaces/shop/services/web", stored("shop", "web", nil, map[string]any{"spec": map[string]any{"selector": map[string]any{"app": "web"}}}))
	p.home.put("/api/v1/nodes/spillway-cloud", map[string]any{"metadata": map[string]any{"name": "spillway-cloud", "labels": map[string]any{v1alpha1.LabelPeer: "cloud"}},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "allocatable": map[string]any{"cpu": "64", "memory": "256Gi", "pods": "200"}}})
	p.home.written()
	p.cloud.written()
	return p
}

// stage is a status that a Migration gets, and when.
type stage struct {
	status v1alpha1.MigrationStatus
}

func at(phase v1alpha1.MigrationPhase, step, moved int32, message string) stage {
	return stage{status: v1alpha1.MigrationStatus{Phase: phase, Step: step, Message: message, Workloads: []v1alpha1.MigratedWorkload{
		{WorkloadName: v1alpha1.WorkloadName{Kind: v1alpha1.WorkloadDeployment, Name: "web"}, Replicas: 10, Moved: moved}}}}
}

// runMigrations gives each new Migration of namespace shop the stages, one after the other, until the test ends.
func (p *pair) runMigrations(t *testing.T, stages ...stage) {
	ctx, cancel := context.WithCancel(t.Context())
	c := p.open(t, "home")
	done := map[types.UID]int{}
	var group sync.WaitGroup
	group.Go(func() {
		_ = follow(ctx, migrationsOf(c, "shop"), metav1.ListOptions{}, func(found map[string]*v1alpha1.Migration) bool {
			for _, m := range found {
				if m.Labels["told"] != "" || done[m.UID] == len(stages) {
					continue
				}
				status := stages[done[m.UID]].status
				status.ObservedGeneration = m.Generation
				done[m.UID]++
				data, err := json.Marshal(map[string]any{"status": status})
				if err == nil {
					_, err = c.migrations("shop").Patch(ctx, m.Name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
			return false
		})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

// has puts a Migration of deployment/web into namespace shop.
func (p *pair) has(name string, s stage) {
	s.status.ObservedGeneration = 1
	p.home.put(migrationsPath+name, map[string]any{"metadata": map[string]any{"name": name, "namespace": "shop", "labels": map[string]any{"told": "yes"}},
		"spec":   v1alpha1.MigrationSpec{Workloads: v1alpha1.WorkloadChoice{Names: []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "web"}}}, To: v1alpha1.Destination{Peer: "cloud"}},
		"status": s.status})
}

// wrote are the writes to objects of this kind, but for statuses.
func (p *pair) wrote(kind string) []string {
	return slices.DeleteFunc(p.home.written(), func(w string) bool { return !strings.Contains(w, "/"+kind) || strings.HasSuffix(w, "/status") })
}

func TestMigrate_ShowsEachStepUntilAllHasMoved(t *testing.T) {
	p := withShop(t)
	p.has("web-to-cloud", at(v1alpha1.MigrationCompleted, 1, 10, ""))
	p.runMigrations(t, at(v1alpha1.MigrationMoving, 1, 0, "1 pod on its way"), at(v1alpha1.MigrationGating, 1, 1, "soaks"), at(v1alpha1.MigrationMoving, 2, 1, ""),
		at(v1alpha1.MigrationMoving, 3, 5, ""), at(v1alpha1.MigrationCompleted, 3, 10, "all has moved"))
	out := p.must(t, "migrate", "deploy/web", "-n", "shop", "--to", "cloud", "--steps", "10,50%,100", "--max-concurrent", "2", "--on-failure", "pause",
		"--soak", "1m", "--http", "http://web.shop.svc", "--max-p99", "300ms")
	for _, want := range []string{"deployment/web goes from home to cloud: 1, 5, 10 of its 10 pods", "Along go: configmap/settings, service/web",
		"✓ Migration web-to-cloud-2", "The Migration web-to-cloud, which had ended, is deleted", "✓ step 1 of 3 (10 %)", "✓ step 2 of 3 (50 %)", "✓ step 3 of 3 (100 %)",
		"1 workload moved to cloud (10 pods) in"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	m, err := p.open(t, "home").migrations("shop").Get(t.Context(), "web-to-cloud-2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"workloads":{"names":[{"kind":"Deployment","name":"web"}]},"to":{"peer":"cloud"},"steps":[10,50,100],` +
		`"gate":{"soak":"1m0s","http":{"url":"http://web.shop.svc","maxP99":"300ms"}},"onFailure":"Pause","maxConcurrent":2}`
	got, err := json.Marshal(m.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"POST " + strings.TrimSuffix(migrationsPath, "/"), "DELETE " + migrationsPath + "web-to-cloud"}, p.wrote("migrations")); diff != "" {
		t.Error(diff)
	}
}

func TestMigrate_Ends(t *testing.T) {
	for name, row := range map[string]struct {
		args   []string
		stages []stage
		code   int
		want   []string
	}{
		"refused": {stages: []stage{at(v1alpha1.MigrationRefused, 0, 0, "the peer cloud has no room for 10 pods")}, code: 1,
			want: []string{"was refused: the peer cloud has no room for 10 pods.", "Nothing has moved."}},
		"rolled back": {stages: []stage{at(v1alpha1.MigrationMoving, 1, 3, ""), at(v1alpha1.MigrationRollingBack, 1, 2, ""), at(v1alpha1.MigrationRolledBack, 1, 0, "the gate did not hold: 12 % errors")}, code: 1,
			want: []string{"was rolled back: the gate did not hold: 12 % errors.", "is where it was"}},
		"paused": {stages: []stage{at(v1alpha1.MigrationPaused, 1, 3, "the gate did not hold")}, code: 1,
			want: []string{"is paused: the gate did not hold.", "spillway migrate resume web-to-cloud -n shop"}},
		"not waited for":          {args: []string{"--no-wait"}, stages: []stage{at(v1alpha1.MigrationMoving, 1, 0, "")}, want: []string{"goes on by itself", "spillway migrate status web-to-cloud -n shop"}},
		"not waited for, refused": {args: []string{"--wait=false"}, stages: []stage{at(v1alpha1.MigrationRefused, 0, 0, "no room")}, code: 1, want: []string{"was refused: no room"}},
		"dry run":                 {args: []string{"--dry-run"}, want: []string{"deployment/web goes from home to cloud: 10 pods in one step", "nothing was changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := withShop(t)
			if len(row.stages) > 0 {
				p.runMigrations(t, row.stages...)
			}
			code, out, errs := p.run(t, append([]string{"migrate", "deployment/web", "-n", "shop", "--to", "cloud"}, row.args...)...)
			if code != row.code {
				t.Errorf("exit %d, want %d\n%s%s", code, row.code, out, errs)
			}
			for _, want := range row.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("output lacks %q:\n%s%s", want, out, errs)
				}
			}
			if wrote := p.wrote("migrations"); (name == "dry run") != (len(wrote) == 0) {
				t.Errorf("written: %v", wrote)
			}
		})
	}
}

func TestMigrate_InterruptedGoesOn(t *testing.T) {
	p := withShop(t)
	p.runMigrations(t, at(v1alpha1.MigrationMoving, 1, 3, ""))
	ctx, interrupt := context.WithCancel(t.Context())
	c := p.open(t, "home")
	go func() {
		_ = follow(ctx, migrationsOf(c, "shop"), named("web-to-cloud"), func(found map[string]*v1alpha1.Migration) bool {
			m := found["shop/web-to-cloud"]
			if m != nil && m.Status.Phase == v1alpha1.MigrationMoving {
				interrupt()
			}
			return false
		})
	}()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"spillway", "migrate", "deployment/web", "-n", "shop", "--to", "cloud", "--kubeconfig", p.kubeconfig}, terminal{&out, &errs})
	if code != exitFailed || !strings.Contains(errs.String(), "the Migration web-to-cloud goes on by itself") || !strings.Contains(errs.String(), "spillway migrate status web-to-cloud -n shop") {
		t.Errorf("exit %d\n%s%s", code, &out, &errs)
	}
	if wrote := p.wrote("migrations"); len(wrote) != 1 {
		t.Errorf("written: %v", wrote)
	}
}

func TestSwitch_MovesAllInOneStep(t *testing.T) {
	p := withShop(t)
	p.home.put("/apis/apps/v1/namespaces/shop/statefulsets/db", stored("shop", "db", nil, map[string]any{}))
	p.runMigrations(t, at(v1alpha1.MigrationMoving, 1, 3, ""), at(v1alpha1.MigrationCompleted, 1, 10, ""))
	var result moveOutcome
	if err := json.Unmarshal([]byte(p.must(t, "switch", "namespace", "shop", "--to", "cloud", "-o", "json")), &result); err != nil {
		t.Fatal(err)
	}
	m := result.Migration
	if !result.OK || result.Command != "switch" || m == nil || m.Name != "shop-to-cloud" || m.Phase != "Completed" || m.Moved != 10 || len(result.Check.Moves) != 4 {
		t.Errorf("result: %+v %+v", result, m)
	}
}

func TestMigrate_Steered(t *testing.T) {
	p := withShop(t)
	p.has("busy", at(v1alpha1.MigrationMoving, 1, 3, ""))
	p.has("done", at(v1alpha1.MigrationCompleted, 1, 10, ""))
	p.has("stuck", at(v1alpha1.MigrationPaused, 1, 5, "the gate did not hold"))
	reply := func(name string, phase v1alpha1.MigrationPhase, moved int32) {
		c := p.open(t, "home")
		ctx := t.Context()
		go func() {
			_ = follow(ctx, migrationsOf(c, "shop"), named(name), func(found map[string]*v1alpha1.Migration) bool {
				m := found["shop/"+name]
				if m.Generation == 1 || m.Spec.Paused && phase != v1alpha1.MigrationPaused {
					return false
				}
				s := at(phase, 1, moved, "said").status
				s.ObservedGeneration = m.Generation
				data, _ := json.Marshal(map[string]any{"status": s})
				_, err := c.migrations("shop").Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
				return err == nil
			})
		}()
	}
	reply("busy", v1alpha1.MigrationPaused, 4)
	if out := p.must(t, "migrate", "pause", "busy", "-n", "shop"); !strings.Contains(out, "It is paused: 4 of 10 moved") {
		t.Error(out)
	}
	reply("done", v1alpha1.MigrationRolledBack, 0)
	if out := p.must(t, "migrate", "rollback", "done", "-n", "shop"); !strings.Contains(out, "What had moved is where it was: said.") {
		t.Error(out)
	}
	reply("stuck", v1alpha1.MigrationCompleted, 10)
	if out := p.must(t, "migrate", "resume", "stuck", "-n", "shop"); !strings.Contains(out, "1 workload moved to cloud") {
		t.Error(out)
	}
	out := p.must(t, "migrate", "list", "-A")
	for _, want := range []string{"busy    cloud   Paused       0%      4/10", "done    cloud   RolledBack", "stuck   cloud   Completed"} {
		if !strings.Contains(out, want) {
			t.Errorf("list lacks %q:\n%s", want, out)
		}
	}
	if out := p.must(t, "migrate", "status", "busy", "-n", "shop"); !strings.Contains(out, "deployment/web   home   4/10") || !strings.Contains(out, "████░░") {
		t.Error(out)
	}
}

// TestMigrate_BadInput: a sentence on what is wrong, one on what to do, the right exit code, and nothing is written.
func TestMigrate_BadInput(t *testing.T) {
	for name, row := range badMigrations() {
		t.Run(name, func(t *testing.T) {
			p := withShop(t)
			p.has("busy", at(v1alpha1.MigrationPaused, 1, 5, ""))
			p.has("done", at(v1alpha1.MigrationCompleted, 1, 10, ""))
			code, out, errs := p.run(t, row.args...)
			if code != row.code {
				t.Errorf("exit %d, want %d\n%s%s", code, row.code, out, errs)
			}
			for _, want := range row.want {
				if !strings.Contains(errs, want) {
					t.Errorf("stderr lacks %q:\n%s", want, errs)
				}
			}
			checkUnwritten(t, p)
		})
	}
}

// badLine is a command line that is refused.
type badLine struct {
	args []string
	code int
	want []string // in stderr
}

func badMigrations() map[string]badLine {
	web := func(more ...string) []string {
		return append([]string{"migrate", "deployment/web", "-n", "shop", "--to", "cloud"}, more...)
	}
	queue := func(more ...string) []string { return append([]string{"migrate", "sts/queue", "-n", "shop"}, more...) }
	rows := map[string]badLine{
		"nothing":           {[]string{"migrate", "--to", "cloud"}, 2, []string{"it is not said what to move", "deployment/web"}},
		"no destination":    {queue(), 2, []string{"it is not said where to move to"}},
		"both":              {web("--all"), 2, []string{"exclude each other"}},
		"twice":             {web("deploy/web"), 2, []string{"deployment/web is given twice"}},
		"bare name":         {[]string{"migrate", "web", "--to", "cloud"}, 2, []string{`"web" does not name a workload`}},
		"kind":              {[]string{"migrate", "replicationcontroller/x", "--to", "cloud"}, 2, []string{`no kind "replicationcontroller"`}},
		"DaemonSet":         {[]string{"migrate", "ds/x", "--to", "cloud"}, 2, []string{`"ds/x" cannot be moved`, "belong to the nodes"}},
		"pod":               {[]string{"migrate", "pod/x", "--to", "cloud"}, 2, []string{"that makes it"}},
		"selector":          {[]string{"migrate", "-l", "a==b==c", "--to", "cloud"}, 2, []string{`--selector "a==b==c"`}},
		"place":             {queue("--to", "The_Cloud"), 2, []string{`--to "The_Cloud" cannot be the name of a peer`}},
		"falling steps":     {web("--steps", "50,10,100"), 2, []string{"10 does not come after 50", "rise to 100"}},
		"equal steps":       {web("--steps", "50,50,100"), 2, []string{"50 does not come after 50"}},
		"steps that stop":   {web("--steps", "10,50"), 2, []string{"ends at 50"}},
		"step of nothing":   {web("--steps", "0,100"), 2, []string{`"0" is not a percentage`}},
		"step too far":      {web("--steps", "50,200"), 2, []string{`"200" is not a percentage`}},
		"empty step":        {web("--steps", "50,,100"), 2, []string{`"" is not a percentage`}},
		"soak":              {web("--soak", "60"), 2, []string{`--soak "60" is not a time`}},
		"step timeout":      {web("--step-timeout", "0s"), 2, []string{"--step-timeout 0s"}},
		"failure":           {web("--on-failure", "panic"), 2, []string{"Use rollback or pause."}},
		"none at once":      {web("--max-concurrent", "0"), 2, []string{"lets nothing move"}},
		"no http":           {web("--max-p99", "1s"), 2, []string{"--max-p99 belongs to --http"}},
		"no address":        {web("--http", "web.shop.svc"), 2, []string{`--http "web.shop.svc" is not an http address`}},
		"errors":            {web("--http", "http://web", "--max-error-percent", "101"), 2, []string{"--max-error-percent 101"}},
		"no prometheus":     {web("--query", "up"), 2, []string{"--query belongs to --prometheus"}},
		"no query":          {web("--prometheus", "http://prom", "--max", "1"), 2, []string{"what to ask Prometheus for"}},
		"no limit":          {web("--prometheus", "http://prom", "--query", "up"), 2, []string{"Say --min or --max."}},
		"limit":             {web("--prometheus", "http://prom", "--query", "up", "--min", "one"), 2, []string{`--min "one"`}},
		"job":               {web("--job", "A"), 2, []string{`--job "A"`}},
		"name":              {web("--name", "A"), 2, []string{`"A" cannot be the name of a Migration`}},
		"namespace":         {[]string{"migrate", "--all", "-n", "A", "--to", "cloud"}, 2, []string{`"A" cannot be the name of a namespace`}},
		"unknown flag":      {web("--step"), 2, []string{"unknown flag: --step", "migrate --help"}},
		"two namespaces":    {[]string{"switch", "namespace", "a", "b", "--to", "cloud"}, 2, []string{"one namespace"}},
		"no such namespace": {[]string{"switch", "namespace", "shoop", "--to", "cloud"}, 1, []string{`no namespace "shoop"`}},
		"no such workload":  {[]string{"migrate", "deployment/wep", "-n", "shop", "--to", "cloud"}, 1, []string{`no Deployment "wep" in namespace "shop"`, "There are: web."}},
		"nothing selected":  {[]string{"migrate", "-l", "tier=back", "-n", "shop", "--to", "cloud"}, 1, []string{"matches none of the 4 workloads"}},
		"no such peer":      {queue("--to", "clout"), 1, []string{`no peer "clout"`, "There are: cloud, and home."}},
		"no such job":       {queue("--to", "cloud", "--job", "smoke"), 1, []string{`no CronJob "smoke"`, "There are: report."}},
		"volume":            {[]string{"migrate", "sts/db", "-n", "shop", "--to", "cloud"}, 1, []string{"statefulset/db has volumes of its own (volumeClaimTemplates data), which cannot follow", "Nothing has moved."}},
		"moved already":     {web(), 1, []string{`the Migration "busy" moves deployment/web already (Paused)`, "spillway migrate rollback busy -n shop"}},
		"name taken":        {queue("--to", "cloud", "--name", "done"), 1, []string{`a Migration "done" already`}},
	}
	for verb, reason := range map[string]string{"pause": "there is nothing to pause", "resume": "there is nothing to resume", "status": "", "rollback": ""} {
		rows[verb+" of nothing"] = badLine{[]string{"migrate", verb}, 2, []string{"takes the name of one Migration"}}
		rows[verb+" of another"] = badLine{[]string{"migrate", verb, "lost", "-n", "shop"}, 1, []string{`no Migration "lost" in namespace "shop"`, "There are: busy, done."}}
		if reason != "" {
			rows[verb+" of an ended one"] = badLine{[]string{"migrate", verb, "done", "-n", "shop"}, 1, []string{fmt.Sprintf("the Migration done is Completed: %s", reason)}}
		}
	}
	return rows
}
