package scenario

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// policies reaches those of the scenario's namespace.
func (s *scenario) policies() peeringclient.Policies {
	s.Helper()
	client, err := peeringclient.NewPolicies(s.consumer.Config())
	s.check(err)
	return client(s.ns)
}

// govern makes a policy, or changes its spec, and waits until new pods are steered by it.
func (s *scenario) govern(name string, spec v1alpha1.OffloadPolicySpec) {
	s.Helper()
	client := s.policies()
	have, err := client.Get(s.ctx, name, getOptions())
	if apierrors.IsNotFound(err) {
		_, err = client.Create(s.ctx, &v1alpha1.OffloadPolicy{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}, Spec: spec}, metav1.CreateOptions{})
	} else if err == nil {
		have.Spec = spec
		_, err = client.Update(s.ctx, have, metav1.UpdateOptions{})
	}
	s.check(err)
	s.eventually(soon, "policy "+name+" is followed", func(ctx context.Context) error {
		p, err := client.Get(ctx, name, getOptions())
		if err != nil {
			return err
		}
		if p.Status.ObservedGeneration != p.Generation {
			return fmt.Errorf("generation %d of %d", p.Status.ObservedGeneration, p.Generation)
		}
		return s.asked(ctx)
	})
}

// asked says whether the API server asks Spillway about new pods of the namespace that tolerate all: steering marks them.
func (s *scenario) asked(ctx context.Context) error {
	probe := s.remotePod("probe", plain, func(pod *corev1.Pod) {
		pod.Labels = nil
		pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	})
	made, err := s.consumer.kube.CoreV1().Pods(s.ns).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil && made.Annotations[v1alpha1.AnnotationPolicy] == "" {
		err = errors.New("a new pod is not steered")
	}
	return err
}

// plain takes everything from a pod that could send it to a virtual node.
func plain(pod *corev1.Pod) { pod.Spec.NodeSelector, pod.Spec.Tolerations = nil, nil }

// plainDeployment is one whose pods say nothing of virtual nodes.
func (s *scenario) plainDeployment(name string, replicas int32) {
	s.Helper()
	labels, spec := map[string]string{"app": name}, remoteSpec()
	spec.NodeSelector, spec.Tolerations = nil, nil
	_, err := s.consumer.kube.AppsV1().Deployments(s.ns).Create(s.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}

// where counts the Ready pods with a label app by whether they are on the virtual node.
func (s *scenario) where(ctx context.Context, app string) (remote, home int, err error) {
	pods, err := s.localPods(ctx)
	for i := range pods {
		switch {
		case pods[i].Labels["app"] != app || ready(&pods[i]) != nil:
		case pods[i].Spec.NodeName == nodeName:
			remote++
		default:
			home++
		}
	}
	return remote, home, err
}

func (s *scenario) areAt(app string, remote, home int) {
	s.Helper()
	s.eventually(time.Minute, fmt.Sprintf("%d pods of %s in the peer, %d at home", remote, app, home), func(ctx context.Context) error {
		r, h, err := s.where(ctx, app)
		if err == nil && (r != remote || h != home) {
			err = fmt.Errorf("%d and %d", r, h)
		}
		return err
	})
}

// TestPolicy: pods that say nothing of virtual nodes run where the policies of their namespace say; a policy that is tightened names the
// pods that no longer fit, and moves them when told to.
func TestPolicy(t *testing.T) {
	s := begin(t)
	s.ns = s.namespace(false) // the policy opens it
	s.govern("b-web", v1alpha1.OffloadPolicySpec{
		When: v1alpha1.OffloadAlways,
		Peers: []v1alpha1.PeerChoice{{Name: west, Patch: &v1alpha1.TwinPatch{
			Tolerations: []corev1.Toleration{{Key: "guests", Operator: corev1.TolerationOpExists}},
		}}},
	})
	s.govern("a-db", v1alpha1.OffloadPolicySpec{
		When: v1alpha1.OffloadNever, PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
	})
	s.plainDeployment("web", 3)
	s.plainDeployment("db", 1)
	s.areAt("web", 3, 0)
	s.areAt("db", 0, 1)
	twins, err := s.twins(s.ctx)
	s.check(err)
	for i := range twins {
		if t := twins[i].Spec.Tolerations; len(t) == 0 || t[0].Key != "guests" {
			s.Errorf("the twin tolerates %v, want what the policy adds", t)
		}
	}

	s.create(s.remotePod("db", func(pod *corev1.Pod) { pod.Spec.NodeName = nodeName })) // past the scheduler
	s.eventually(soon, "a pod that may not leave is refused", func(ctx context.Context) error { return s.refused(ctx, "db", "OffloadNotAllowed") })
	s.deletePod("db", byForce())

	tight := v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAllowed, Peers: []v1alpha1.PeerChoice{{Name: "elsewhere"}}}
	s.govern("b-web", tight)
	s.eventually(soon, "the policy names its misfits", func(ctx context.Context) error { return s.misfits(ctx, 3) })
	s.areAt("web", 3, 0)
	tight.Misfits = v1alpha1.MisfitsEvict
	s.govern("b-web", tight)
	s.areAt("web", 0, 3)
	s.eventually(soon, "all fit", func(ctx context.Context) error { return s.misfits(ctx, 0) })
}

// misfits says why the policy b-web does not name so many.
func (s *scenario) misfits(ctx context.Context, want int32) error {
	p, err := s.policies().Get(ctx, "b-web", getOptions())
	if err != nil {
		return err
	}
	fits := meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionFits)
	if p.Status.MisfitCount != want || len(p.Status.Misfits) != int(want) || fits != (want == 0) {
		return fmt.Errorf("status: %+v", p.Status)
	}
	return nil
}

// TestPolicyAndWorkloadAtOnce: who applies a policy and its Deployment in one go gets no pod at home.
func TestPolicyAndWorkloadAtOnce(t *testing.T) {
	s := begin(t)
	for range 2 {
		s.ns = s.namespace(false)
		_, err := s.policies().Create(s.ctx, &v1alpha1.OffloadPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: s.ns}, Spec: v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways},
		}, metav1.CreateOptions{})
		s.check(err)
		s.create(s.remotePod("bare", plain))
		s.plainDeployment("web", 3)
		s.areAt("web", 3, 0)
		s.areAt("bare", 1, 0)
	}
}

// TestPolicyWithoutSpillway: while spillwayd is away, pods of other namespaces are made as ever, those of governed ones as their
// policy says.
func TestPolicyWithoutSpillway(t *testing.T) {
	s := begin(t)
	free := s.ns
	s.ns = s.namespace(false)
	lenient := s.ns
	s.govern("p", v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways})
	s.ns = s.namespace(false)
	strict := s.ns
	s.govern("p", v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, FailurePolicy: v1alpha1.FailurePolicyFail})

	s.check(s.consumer.spillwayd.Kill())
	defer s.keepSpillwaydRunning(s.consumer)
	for _, ns := range []string{free, lenient} {
		s.ns = ns
		begun := time.Now()
		s.create(s.remotePod("web", plain))
		s.Logf("made in %s", time.Since(begun).Round(time.Millisecond))
	}
	s.ns = strict
	_, err := s.consumer.kube.CoreV1().Pods(strict).Create(s.ctx, s.remotePod("web", plain), metav1.CreateOptions{})
	if err == nil {
		s.Error("a pod was made that nobody steered")
	}
	s.Logf("refused: %v", err)
	s.check(s.consumer.spillwayd.Restart())
	s.eventually(time.Minute, "pods are made again", func(ctx context.Context) error {
		_, err := s.consumer.kube.CoreV1().Pods(strict).Create(ctx, s.remotePod("web", plain), metav1.CreateOptions{})
		return err
	})
	s.running("web")
}

// TestRecreateAfter: pods of a StatefulSet and a Deployment are made elsewhere when their peer has been silent for as long as their policy
// bears, not before; the twins end when the peer is back.
func TestRecreateAfter(t *testing.T) {
	s := begin(t)
	s.ns = s.namespace(false)
	const patience = 20 * time.Second
	spec := v1alpha1.OffloadPolicySpec{When: v1alpha1.OffloadAlways, OnPeerLost: v1alpha1.PeerLost{
		Action: v1alpha1.PeerLostRecreateAfter, After: &metav1.Duration{Duration: patience}}}
	s.govern("p", spec)
	s.plainDeployment("web", 2)
	s.statefulSet("db")
	s.areAt("web", 2, 0)
	s.areAt("db", 1, 0)
	before, twin := s.running("db-0")
	spec.When = v1alpha1.OffloadAllowed // replacements may be at home
	s.govern("p", spec)

	link := s.provider.Link()
	s.Cleanup(func() { s.check(link.Restore()) })
	cut := time.Now()
	s.check(link.Cut(lab.Blackhole))
	s.always(patience-2*time.Second-time.Since(cut), "nothing is made elsewhere before its time", func(ctx context.Context) error {
		now, err := s.local(ctx, "db-0")
		if err == nil && now.UID != before.UID {
			err = fmt.Errorf("db-0 was made again %s after the peer went silent", time.Since(cut).Round(time.Second))
		}
		return err
	})
	s.areAt("web", 0, 2)
	s.areAt("db", 0, 1)
	s.Logf("made elsewhere %s after the peer went silent", time.Since(cut).Round(time.Second))
	s.check(s.untouched(s.ctx, twin))
	s.check(link.Restore())
	took := s.eventually(soon, "the old twin has ended", func(ctx context.Context) error { return s.twinGone(ctx, twin) })
	if took > reunion {
		s.Errorf("two of one identity for %s after the reunion, want at most %s", took, reunion)
	}
	s.areAt("db", 0, 1)
}

// reunion is how long two twins of one identity may be there once the peer answers again: what it takes to see it, and to end one.
const reunion = 10 * time.Second

func (s *scenario) statefulSet(name string) {
	s.Helper()
	labels, spec := map[string]string{"app": name}, remoteSpec()
	spec.NodeSelector, spec.Tolerations = nil, nil
	_, err := s.consumer.kube.AppsV1().StatefulSets(s.ns).Create(s.ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels}, ServiceName: name,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	s.check(err)
}
