package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// owned is the metadata of a pod of a controller.
func owned(apiVersion, kind, name string, labels map[string]string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{Name: name + "-x", Namespace: "shop", Labels: labels,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, Controller: &yes}}}
}

// webPod is a pod of Deployment web.
func webPod() metav1.ObjectMeta {
	return owned("apps/v1", "ReplicaSet", "web-5d4f", map[string]string{"app": "web", "pod-template-hash": "5d4f"})
}

// released is a pod that the ReplicaSet of web was made to let go of.
func releasedPod() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: "web-5d4f-x", Labels: map[string]string{"pod-template-hash": "5d4f-moving", v1alpha1.LabelMoving: "uid"},
		Annotations: map[string]string{v1alpha1.AnnotationMoving: `{"controller":"web-5d4f","hash":"5d4f","to":"west","why":"","at":"2026-01-02T15:04:05Z"}`}}
}

func TestWorkloadOf(t *testing.T) {
	stillOwned := releasedPod()
	stillOwned.OwnerReferences = webPod().OwnerReferences
	for name, row := range map[string]struct {
		pod  metav1.ObjectMeta
		want v1alpha1.WorkloadName
	}{
		"of a Deployment":                  {webPod(), v1alpha1.WorkloadName{Kind: "Deployment", Name: "web"}},
		"of a bare ReplicaSet":             {owned("apps/v1", "ReplicaSet", "web-5d4f", nil), v1alpha1.WorkloadName{}},
		"of a ReplicaSet of another name":  {owned("apps/v1", "ReplicaSet", "web", map[string]string{"pod-template-hash": "5d4f"}), v1alpha1.WorkloadName{}},
		"of a StatefulSet":                 {owned("apps/v1", "StatefulSet", "db", nil), v1alpha1.WorkloadName{Kind: "StatefulSet", Name: "db"}},
		"of somebody else's StatefulSet":   {owned("apps.example.com/v1", "StatefulSet", "db", nil), v1alpha1.WorkloadName{}},
		"of a CronJob":                     {owned("batch/v1", "Job", "nightly-mail-29384710", nil), v1alpha1.WorkloadName{Kind: "CronJob", Name: "nightly-mail"}},
		"of a Job of its own":              {owned("batch/v1", "Job", "import", nil), v1alpha1.WorkloadName{}},
		"of a Job that ends in a word":     {owned("batch/v1", "Job", "import-29a", nil), v1alpha1.WorkloadName{}},
		"of a Job that ends in a dash":     {owned("batch/v1", "Job", "import-", nil), v1alpha1.WorkloadName{}},
		"of a DaemonSet":                   {owned("apps/v1", "DaemonSet", "agent", nil), v1alpha1.WorkloadName{}},
		"of nobody":                        {metav1.ObjectMeta{Name: "web-5d4f-x"}, v1alpha1.WorkloadName{}},
		"released":                         {releasedPod(), v1alpha1.WorkloadName{Kind: "Deployment", Name: "web"}},
		"released, but not yet let go":     {stillOwned, v1alpha1.WorkloadName{Kind: "Deployment", Name: "web"}},
		"released by nobody knows whom":    {metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelMoving: "uid"}}, v1alpha1.WorkloadName{}},
		"with the annotation of a release": {metav1.ObjectMeta{Annotations: releasedPod().Annotations}, v1alpha1.WorkloadName{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := WorkloadOf(&row.pod); got != row.want || ok != (row.want.Name != "") {
				t.Errorf("%v %v, want %v", got, ok, row.want)
			}
		})
	}
}

// migration of Deployment web and CronJob nightly, which were in a place, to another; home is empty.
func migration(name, from, to string, phase v1alpha1.MigrationPhase, share int32) *v1alpha1.Migration {
	m := &v1alpha1.Migration{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", CreationTimestamp: metav1.Unix(1000, 0)}}
	m.Spec.To = v1alpha1.Destination{Peer: to, Home: to == ""}
	m.Status.Phase, m.Status.Share = phase, share
	for _, w := range []v1alpha1.WorkloadName{{Kind: v1alpha1.WorkloadDeployment, Name: "web"}, {Kind: v1alpha1.WorkloadCronJob, Name: "nightly"}} {
		m.Status.Workloads = append(m.Status.Workloads, v1alpha1.MigratedWorkload{WorkloadName: w, From: from})
	}
	return m
}

func withMigrations(migrations ...*v1alpha1.Migration) Set { return NewSet(nil, migrations) }

func TestMigration_NewestGoverns(t *testing.T) {
	at := func(seconds int64, m *v1alpha1.Migration) *v1alpha1.Migration {
		m.CreationTimestamp = metav1.Unix(seconds, 0)
		return m
	}
	deleted := migration("deleted", "", "west", v1alpha1.MigrationMoving, 50)
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Unix(2000, 0)}
	blind := migration("blind", "", "west", v1alpha1.MigrationPending, 0)
	blind.Status.Workloads = nil
	other := migration("other", "", "west", v1alpha1.MigrationMoving, 50)
	other.Status.Workloads[0].Name = "shop"
	for name, row := range map[string]struct {
		all  []*v1alpha1.Migration
		want string
	}{
		"none": {nil, ""},
		"the newer": {[]*v1alpha1.Migration{at(1, migration("a", "", "west", v1alpha1.MigrationMoving, 50)),
			at(2, migration("b", "", "east", v1alpha1.MigrationMoving, 50))}, "b"},
		"of one second, the first by name": {[]*v1alpha1.Migration{migration("b", "", "west", v1alpha1.MigrationMoving, 50),
			migration("a", "", "west", v1alpha1.MigrationMoving, 50)}, "a"},
		"not the refused one": {[]*v1alpha1.Migration{at(1, migration("a", "", "west", v1alpha1.MigrationCompleted, 100)),
			at(2, migration("b", "", "east", v1alpha1.MigrationRefused, 0))}, "a"},
		"not one that nobody has looked at": {[]*v1alpha1.Migration{migration("a", "", "west", "", 0)}, ""},
		"not one without workloads":         {[]*v1alpha1.Migration{blind}, ""},
		"not one that is deleted":           {[]*v1alpha1.Migration{deleted}, ""},
		"not one of another workload":       {[]*v1alpha1.Migration{other}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			web := webPod()
			got := ""
			if m := withMigrations(row.all...).Migration(&web); m != nil {
				got = m.Name
			}
			if empty := len(withMigrations(row.all...).Migrations()) == 0; empty != withMigrations(row.all...).Empty() || empty && got != "" {
				t.Errorf("%q governs where there is none", got)
			}
			if got != row.want {
				t.Errorf("%q governs, want %q", got, row.want)
			}
		})
	}
}

// TestMigration_Steers: where the scheduler may put new pods of a workload, by its own rules.
func TestMigration_Steers(t *testing.T) {
	moving, paused, completed := v1alpha1.MigrationMoving, v1alpha1.MigrationPaused, v1alpha1.MigrationCompleted
	back, was := v1alpha1.MigrationRollingBack, v1alpha1.MigrationRolledBack
	home, west, east := []string{"worker"}, []string{"west"}, []string{"east"}
	nightly := owned("batch/v1", "Job", "nightly-29384710", nil)
	anywhere := corev1.PodSpec{Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}
	for name, row := range map[string]struct {
		migration *v1alpha1.Migration
		policy    *v1alpha1.OffloadPolicySpec
		pod       metav1.ObjectMeta
		spec      corev1.PodSpec
		want      []string // none: it waits at the gate
		why       string
	}{
		"nothing has moved":     {migration: migration("web", "", "west", moving, 0), want: home, why: "Migration web leaves it at home"},
		"all":                   {migration: migration("web", "", "west", moving, 100), want: west, why: "Migration web sends it to west"},
		"some":                  {migration: migration("web", "", "west", moving, 50), why: "Migration web sends 50% of deployment web to west: this pod waits to be told its place"},
		"some, and paused":      {migration: migration("web", "", "west", paused, 50), why: "Migration web sends 50% of deployment web to west: this pod waits to be told its place"},
		"completed":             {migration: migration("web", "", "west", completed, 0), want: west, why: "Migration web sends it to west"},
		"rolling back":          {migration: migration("web", "", "west", back, 50), want: home, why: "Migration web leaves it at home"},
		"rolled back to a peer": {migration: migration("web", "east", "west", was, 50), want: east, why: "Migration web leaves it in east"},
		"home":                  {migration: migration("web", "west", "", moving, 100), want: home, why: "Migration web sends it home"},
		"some home":             {migration: migration("web", "west", "", moving, 10), why: "Migration web brings 10% of deployment web home: this pod waits to be told its place"},
		"home, not yet":         {migration: migration("web", "west", "", moving, 0), want: west, why: "Migration web leaves it in west"},
		"home, completed":       {migration: migration("web", "west", "", completed, 100), want: home, why: "Migration web sends it home"},
		"was there already":     {migration: migration("web", "west", "west", moving, 50), want: west, why: "Migration web sends it to west"},
		"a CronJob, some":       {migration: migration("web", "", "west", moving, 50), pod: nightly, want: home, why: "Migration web leaves it at home"},
		"a CronJob, all":        {migration: migration("web", "", "west", moving, 100), pod: nightly, want: west, why: "Migration web sends it to west"},
		"a pod that may be anywhere": {migration: migration("web", "", "west", moving, 100), spec: anywhere, want: west,
			why: "Migration web sends it to west"},
		"a pod that may be anywhere stays at home": {migration: migration("web", "", "west", moving, 0), spec: anywhere, want: home,
			why: "Migration web leaves it at home"},
		"a policy for another peer does not count": {migration: migration("web", "", "west", moving, 100), want: west,
			policy: &v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, Peers: []v1alpha1.PeerChoice{{Name: "east"}}}, why: "Migration web sends it to west"},
		"a policy that keeps it at home does": {migration: migration("web", "", "west", moving, 100), want: home, spec: anywhere,
			policy: &v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadNever}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: row.pod, Spec: row.spec}
			if pod.Name == "" {
				pod.ObjectMeta = webPod()
			}
			var policies []*v1alpha1.OffloadPolicy
			if row.policy != nil {
				policies = append(policies, policyOf("p", *row.policy))
			}
			s, ok := NewSet(policies, []*v1alpha1.Migration{row.migration}).Steer(pod)
			if !ok || s.Annotations[v1alpha1.AnnotationPlacement] != row.why || (s.Policy == "") != (row.why != "") {
				t.Errorf("steered: %v by %q, since %q, want %q", ok, s.Policy, s.Annotations[v1alpha1.AnnotationPlacement], row.why)
			}
			if row.want == nil {
				want := []corev1.PodSchedulingGate{{Name: v1alpha1.GatePlacement}}
				if diff := cmp.Diff(want, s.Gates); diff != "" || s.Affinity != nil || len(s.Tolerations) > 0 {
					t.Errorf("does not only wait: %s %v %v", diff, s.Affinity, s.Tolerations)
				}
				return
			}
			pod.Spec.Tolerations, pod.Spec.Affinity = s.Tolerations, s.Affinity
			if diff := cmp.Diff(row.want, schedulable(pod), cmp.Transformer("sort", sorted)); diff != "" || s.Gates != nil {
				t.Errorf("%s; gates %v", diff, s.Gates)
			}
		})
	}
}

// TestMigration_Holds: a pod that is sent to a peer outlasts an outage; one at home does not wait longer than others.
func TestMigration_Holds(t *testing.T) {
	given := int64(defaultTolerationSeconds)
	for place, want := range map[string]int64{"": given, "west": v1alpha1.HeldSeconds} {
		pod := &corev1.Pod{ObjectMeta: webPod(), Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{
			{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &given}}}}
		s, _ := withMigrations(migration("web", "", place, v1alpha1.MigrationMoving, 100)).Steer(pod)
		if got := *s.Tolerations[0].TolerationSeconds; got != want {
			t.Errorf("to %q: tolerates for %d s, want %d", place, got, want)
		}
		if given != defaultTolerationSeconds {
			t.Fatal("the pod itself was changed")
		}
	}
}

func TestMigration_Verdicts(t *testing.T) {
	gpu := "nvidia"
	patch := &v1alpha1.TwinPatch{RuntimeClassName: &gpu}
	choosy := func(when v1alpha1.OffloadWhen) []*v1alpha1.OffloadPolicy {
		return []*v1alpha1.OffloadPolicy{policyOf("p", v1alpha1.OffloadPolicySpec{When: when, Peers: []v1alpha1.PeerChoice{{Name: "east", Patch: patch}}})}
	}
	toWest := []*v1alpha1.Migration{migration("m", "", "west", v1alpha1.MigrationMoving, 50)}
	westHome := []*v1alpha1.Migration{migration("m", "west", "", v1alpha1.MigrationCompleted, 100)}
	closed := "namespace shop does not allow offloading: kubectl label namespace shop spillway.dev/offload=enabled, or make an OffloadPolicy in it"
	db := owned("apps/v1", "StatefulSet", "db", nil)
	for name, row := range map[string]struct {
		set   Set
		label string
		pod   metav1.ObjectMeta
		peer  string
		want  Verdict
		open  bool
	}{
		"at the destination":              {NewSet(nil, toWest), "", webPod(), "west", Verdict{Migration: "m"}, true},
		"released, at the destination":    {NewSet(nil, toWest), "", releasedPod(), "west", Verdict{Migration: "m"}, true},
		"where it came from":              {NewSet(nil, westHome), "", webPod(), "west", Verdict{Migration: "m"}, true},
		"elsewhere":                       {NewSet(nil, toWest), "", webPod(), "east", Verdict{Refusal: closed}, true},
		"nobody knows where":              {NewSet(nil, toWest), "", webPod(), "", Verdict{Refusal: closed}, true},
		"another workload":                {NewSet(nil, toWest), "", db, "west", Verdict{Refusal: closed}, true},
		"another workload, open by label": {NewSet(nil, toWest), "enabled", db, "west", Verdict{}, true},
		"whatever the policy's peers say": {NewSet(choosy(v1alpha1.OffloadAlways), toWest), "", webPod(), "west", Verdict{Policy: "p", Migration: "m"}, true},
		"where the policy lets it":        {NewSet(choosy(v1alpha1.OffloadAlways), toWest), "", webPod(), "east", Verdict{Policy: "p", Patch: patch}, true},
		"with the policy's patch": {NewSet(choosy(v1alpha1.OffloadAlways), []*v1alpha1.Migration{migration("m", "", "east", v1alpha1.MigrationMoving, 50)}),
			"", webPod(), "east", Verdict{Policy: "p", Migration: "m", Patch: patch}, true},
		"a policy that keeps it at home": {NewSet(choosy(v1alpha1.OffloadNever), toWest), "enabled", webPod(), "west",
			Verdict{Policy: "p", Refusal: "OffloadPolicy p keeps this pod at home"}, true},
		"a closed namespace": {NewSet(nil, toWest), "disabled", webPod(), "west",
			Verdict{Refusal: "namespace shop is closed for offloading by its label spillway.dev/offload=disabled"}, false},
		"refused": {NewSet(nil, []*v1alpha1.Migration{migration("m", "", "west", v1alpha1.MigrationRefused, 0)}), "", webPod(), "west",
			Verdict{Refusal: closed}, false},
		"home, from home": {NewSet(nil, []*v1alpha1.Migration{migration("m", "", "", v1alpha1.MigrationCompleted, 100)}), "", webPod(), "west",
			Verdict{Refusal: closed}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, row.set.Judge(namespace(row.label), &row.pod, Place{row.peer, places()[row.peer]})); diff != "" {
				t.Error(diff)
			}
			if why := row.set.Closed(namespace(row.label)); (why == "") != row.open {
				t.Errorf("open: %v (%s)", !row.open, why)
			}
		})
	}
}

func TestSameCourse(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*v1alpha1.Migration)
		want   bool
	}{
		"the same":                {func(*v1alpha1.Migration) {}, true},
		"progress":                {func(m *v1alpha1.Migration) { m.Status.Moved, m.Status.Workloads[0].Moved = "1/2", 1 }, true},
		"a phase of the same way": {func(m *v1alpha1.Migration) { m.Status.Phase = v1alpha1.MigrationGating }, true},
		"another share":           {func(m *v1alpha1.Migration) { m.Status.Share = 60 }, false},
		"rolling back":            {func(m *v1alpha1.Migration) { m.Status.Phase = v1alpha1.MigrationRollingBack }, false},
		"refused":                 {func(m *v1alpha1.Migration) { m.Status.Phase = v1alpha1.MigrationRefused }, false},
		"fewer workloads":         {func(m *v1alpha1.Migration) { m.Status.Workloads = m.Status.Workloads[:1] }, false},
		"from elsewhere":          {func(m *v1alpha1.Migration) { m.Status.Workloads[0].From = "east" }, false},
		"refused at once":         {func(m *v1alpha1.Migration) { m.Status = v1alpha1.MigrationStatus{Phase: v1alpha1.MigrationRefused} }, false},
		"deleted":                 {func(m *v1alpha1.Migration) { m.DeletionTimestamp = &metav1.Time{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := migration("m", "", "west", v1alpha1.MigrationMoving, 50)
			now := before.DeepCopy()
			row.change(now)
			if SameCourse(before, now) != row.want || SameCourse(now, before) != row.want {
				t.Errorf("the same course: %v", !row.want)
			}
		})
	}
}

// TestSameCourse_Beginnings: a Migration that nobody has looked at sends nobody; what becomes of it is told.
func TestSameCourse_Beginnings(t *testing.T) {
	fresh := &v1alpha1.Migration{}
	for _, phase := range []v1alpha1.MigrationPhase{v1alpha1.MigrationPending, v1alpha1.MigrationRefused} {
		now := fresh.DeepCopy()
		now.Status.Phase = phase
		if SameCourse(fresh, now) {
			t.Errorf("%s is not told", phase)
		}
	}
	if s := withMigrations(fresh); s.Empty() || s.Closed(namespace("")) == "" {
		t.Error("it is not waited for, or opens the namespace")
	}
}
