package fidelity

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	diskClass   = "disk" // the default class of both clusters
	volumeClass = "spillway"
	written     = "0:0 x" // file:/data/x, after its rights
)

// TestVolumes: a volume is made where its first pod lands, later pods follow it there without being steered, and it goes with its
// claim. So it is in the peer, and at home.
func TestVolumes(t *testing.T) {
	w := theWorld(t)
	const ns = "volumes"
	w.namespace(t, ns)
	remote := map[string]kubernetes.Interface{}
	for _, c := range w.lab.Clusters() {
		kube, err := kubernetes.NewForConfig(c.Config())
		if err != nil {
			t.Fatal(err)
		}
		remote[c.Name()] = kube
		disks(t, kube, c.Name() == east)
	}
	for _, row := range []struct{ claim, node string }{{"far", "spillway-" + west}, {"near", w.home}} {
		t.Run(row.claim, func(t *testing.T) {
			w.claim(t, ns, row.claim)
			w.run(t, ns, row.claim+"-writes", row.node, mountClaim(row.claim), "write:/data/x")
			bound, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), row.claim, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if has := bound.Status.Capacity[corev1.ResourceStorage]; bound.Status.Phase != corev1.ClaimBound || has.IsZero() {
				t.Errorf("the claim is %s with %s", bound.Status.Phase, has.String())
			}
			pod := w.run(t, ns, row.claim+"-reads", "", mountClaim(row.claim), "file:/data/x")
			if pod.Spec.NodeName != row.node {
				t.Errorf("the second pod is on %s, not on %s", pod.Spec.NodeName, row.node)
			}
			if said := message(pod); !strings.Contains(said, written) {
				t.Errorf("the second pod sees %q", said)
			}
			w.gone(t, ns, bound, remote[west])
		})
	}
	t.Run("ephemeral", func(t *testing.T) {
		class := volumeClass
		w.run(t, ns, "ephemeral", "spillway-"+west, corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: claimSpec(&class)},
		}}, "write:/data/x")
	})
	t.Run("a tenant takes no volume of others", func(t *testing.T) { w.foreignVolume(t, remote[west]) })
	t.Run("unpeer", func(t *testing.T) {
		w.claim(t, ns, "kept")
		w.run(t, ns, "kept-writes", "spillway-"+west, mountClaim("kept"), "write:/data/x")
		if out, err := w.unpeer(t, "5s"); err == nil || !strings.Contains(out, ns+"/kept") {
			t.Errorf("un-peered with a volume there, or it is not said which: %v\n%s", err, out)
		}
		kept, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), "kept", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.gone(t, ns, kept, remote[west])
		if out, err := w.unpeer(t, "30s"); err != nil && !strings.Contains(out, "nothing to un-peer") { // what was begun may have ended
			t.Errorf("not un-peered without: %v\n%s", err, out)
		}
	})
	t.Run("unpeer a dead peer", func(t *testing.T) { w.volumeOfDeadPeer(t, ns) })
}

// volumeOfDeadPeer: a peer that is dead is un-peered, and its volumes go with their claims.
func (w *world) volumeOfDeadPeer(t *testing.T, ns string) {
	if err := w.Peer(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.claim(t, ns, "lost")
	w.run(t, ns, "lost-writes", "spillway-"+west, mountClaim("lost"), "write:/data/x")
	lost, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), "lost", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	peer := w.lab.Cluster(west)
	t.Cleanup(func() { // for the tests that come
		if err := w.revive(context.Background(), peer); err != nil {
			t.Error(err)
		}
	})
	if err := peer.Kill(t.Context(), lab.APIServer); err != nil {
		t.Fatal(err)
	}
	if out, err := w.unpeer(t, "30s"); err != nil {
		t.Fatalf("a dead peer is not un-peered: %v\n%s", err, out)
	}
	w.gone(t, ns, lost)
}

// revive starts the API server of a peer again, and peers anew. Informers that met no API server for a while ask again after half a minute
// only: the scheduler and the controllers start anew, and the kubelet's are waited for.
func (w *world) revive(ctx context.Context, peer *lab.Cluster) error {
	for _, component := range []string{lab.APIServer, lab.Scheduler, lab.ControllerManager} {
		if err := peer.Restart(ctx, component); err != nil {
			return err
		}
	}
	if err := w.Peer(ctx); err != nil {
		return err
	}
	pods := w.away.CoreV1().Pods(metav1.NamespaceDefault)
	// The pod ends well when the peer's DNS, which too asks again only after a while, has heard of a Service that is new.
	services := w.away.CoreV1().Services(metav1.NamespaceDefault)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "revived"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := services.Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "revived"}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyOnFailure,
		Containers: []corev1.Container{{
			Name: "app", Image: appImage, ImagePullPolicy: corev1.PullNever, Args: []string{"resolve", "revived.default.svc.cluster.local"},
		}},
	}}
	if _, err := pods.Create(ctx, probe, metav1.CreateOptions{}); err != nil {
		return err
	}
	err := duo.Until(ctx, 2*time.Minute, func(ctx context.Context) error {
		pod, err := pods.Get(ctx, probe.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("pod %s on %q is %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase)
		}
		return err
	})
	return errors.Join(err, pods.Delete(ctx, probe.Name, metav1.DeleteOptions{}), services.Delete(ctx, service.Name, metav1.DeleteOptions{}))
}

func (w *world) unpeer(t *testing.T, timeout string) (string, error) {
	return w.Spillway(t.Context(), "unpeer", "--context", east, "--timeout", timeout, west)
}

// foreignVolume asks the peer, as the consumer, for a volume that somebody has made there.
func (w *world) foreignVolume(t *testing.T, peer kubernetes.Interface) {
	bindings, err := peer.RbacV1().RoleBindings("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var in, user string
	for _, b := range bindings.Items {
		if b.RoleRef.Name == "spillway-tenant" {
			in, user = b.Namespace, "system:serviceaccount:"+b.Subjects[0].Namespace+":"+b.Subjects[0].Name
		}
	}
	for _, c := range w.lab.Clusters() {
		if c.Name() != west {
			continue
		}
		config := rest.CopyConfig(c.Config())
		config.Impersonate.UserName = user
		tenant, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		class := diskClass
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "taken"}, Spec: claimSpec(&class)}
		claim.Spec.VolumeName = "disk-1"
		if _, err = tenant.CoreV1().PersistentVolumeClaims(in).Create(t.Context(), claim, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("a claim that names a volume, as %s in %s: %v", user, in, err)
		}
	}
}

// disks makes the default class of a cluster, and volumes for it. Nobody makes volumes in a lab: they are given to claims at once,
// or by the scheduler.
func disks(t *testing.T, kube kubernetes.Interface, atOnce bool) {
	t.Helper()
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	if atOnce {
		mode = storagev1.VolumeBindingImmediate
	}
	_, err := kube.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: diskClass, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &mode,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir, make := t.TempDir(), corev1.HostPathDirectoryOrCreate
	for i := range 4 {
		name := fmt.Sprintf("disk-%d", i)
		_, err := kube.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: diskClass, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{
					Path: filepath.Join(dir, name), Type: &make,
				}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func claimSpec(class *string) corev1.PersistentVolumeClaimSpec {
	return corev1.PersistentVolumeClaimSpec{
		StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}
}

func mountClaim(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func (w *world) claim(t *testing.T, ns, name string) {
	t.Helper()
	class := volumeClass
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: claimSpec(&class)}
	if _, err := w.kube.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// run makes a pod with a volume at /data that sees words, waits until it has succeeded, and takes it away. An empty node: it may
// go anywhere.
func (w *world) run(t *testing.T, ns, name, node string, volume corev1.VolumeSource, words ...string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Tolerations:   []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: "app", Image: appImage, ImagePullPolicy: corev1.PullNever, Args: append([]string{"see"}, words...),
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
		}},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: volume}},
	}}
	if node != "" {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}
	pods := w.kube.CoreV1().Pods(ns)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(w.events(ns))
		}
	}()
	eventually(t, soon, func(ctx context.Context) (err error) {
		if pod, err = pods.Get(ctx, name, metav1.GetOptions{}); err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("pod %s on %q is %s: %s %+v", name, pod.Spec.NodeName, pod.Status.Phase, message(pod), pod.Status.Conditions)
		}
		return err
	})
	if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error { return absent(pods.Get(ctx, name, metav1.GetOptions{})) })
	return pod
}

// gone deletes a claim and waits until nothing is left of it.
func (w *world) gone(t *testing.T, ns string, claim *corev1.PersistentVolumeClaim, peers ...kubernetes.Interface) {
	t.Helper()
	if err := w.kube.CoreV1().PersistentVolumeClaims(ns).Delete(t.Context(), claim.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error {
		if err := absent(w.kube.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})); err != nil {
			return err
		}
		for _, kube := range append(peers, w.kube) {
			claims, err := kube.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, c := range claims.Items {
				if c.Name == claim.Name || c.Name == claim.Spec.VolumeName {
					return fmt.Errorf("claim %s/%s is still there", c.Namespace, c.Name)
				}
			}
		}
		return nil
	})
}

// events are what home's components said of a namespace.
func (w *world) events(ns string) string {
	var text strings.Builder
	list, err := w.kube.CoreV1().Events(ns).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, e := range list.Items {
		fmt.Fprintf(&text, "%s %s: %s %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return text.String()
}

func absent[T metav1.Object](o T, err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s is still there", o.GetName())
}

// message is what the first container noted when it ended.
func message(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Terminated != nil {
			return c.State.Terminated.Message
		}
	}
	return ""
}
