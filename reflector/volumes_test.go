package reflector

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

func gigabytes(n int64) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(n<<30, resource.BinarySI)}
}

func waitingClaim(node string) *corev1.PersistentVolumeClaim {
	class := "spillway"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: "data", Namespace: "shop", UID: "c1",
			Annotations: map[string]string{annotationProvisioner: translate.VolumeProvisioner},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: gigabytes(1)},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	if node != "" {
		claim.Annotations[annotationSelectedNode] = node
	}
	return claim
}

func volumeClass(parameters map[string]string) *storagev1.StorageClass {
	mode, retain := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "spillway"}, Provisioner: translate.VolumeProvisioner, VolumeBindingMode: &mode,
		ReclaimPolicy: &retain, Parameters: parameters,
	}
}

func nodeOf(name, peer string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if peer != "" {
		n.Labels[translate.LabelPeer] = peer
	}
	return n
}

// bind does what the cluster's controller does with a claim and the volume made for it.
func (l *loop) bind() {
	l.Helper()
	pv, err := l.home.CoreV1().PersistentVolumes().Get(l.Context(), "pvc-c1", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	pv.Status.Phase = corev1.VolumeBound
	l.put(l.home, "persistentvolumes", pv)
	claim, err := l.home.CoreV1().PersistentVolumeClaims("shop").Get(l.Context(), "data", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	claim.Spec.VolumeName = pv.Name
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: pv.Spec.Capacity}
	l.put(l.home, "persistentvolumeclaims", claim)
	l.settle()
}

// release does what it does with the volume of a claim that is deleted.
func (l *loop) release(policy corev1.PersistentVolumeReclaimPolicy) {
	l.Helper()
	l.remove(l.home, "persistentvolumeclaims", "shop", "data")
	pv, err := l.home.CoreV1().PersistentVolumes().Get(l.Context(), "pvc-c1", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	pv.Status.Phase, pv.Spec.PersistentVolumeReclaimPolicy = corev1.VolumeReleased, policy
	l.put(l.home, "persistentvolumes", pv)
	l.settle()
}

// wroteOnce is wrote where a write may be sent twice: two events ask for it before the echo of the first. A real server refuses
// the second.
func (l *loop) wroteOnce(what string, home, peer []string) {
	l.Helper()
	if diff := cmp.Diff(home, slices.Compact(l.writes(l.home))); diff != "" {
		l.Errorf("%s: writes at home (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(peer, slices.Compact(l.writes(l.peer))); diff != "" {
		l.Errorf("%s: writes at the peer (-want +got):\n%s", what, diff)
	}
}

const (
	makeVolume = "create persistentvolumes /pvc-c1"
	makeClaim  = "create persistentvolumeclaims shop-1f2e/data"
	endClaim   = "delete persistentvolumeclaims shop-1f2e/data"
	freeVolume = "patch persistentvolumes /pvc-c1"
	endVolume  = "delete persistentvolumes /pvc-c1"
)

// TestLoop_Volumes: a claim gets its volume where its pod lands, its twin is there without a pod and stays without one, grows,
// and goes when it is deleted at home.
func TestLoop_Volumes(t *testing.T) {
	pod := localPod()
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	runLoop(t, objects(waitingClaim("far"), volumeClass(nil), nodeOf("far", "west"), pod), nil, nil, func(l *loop) {
		l.wrote("the scheduler has chosen; the pod waits", []string{makeVolume}, nil)
		l.bind()
		l.wrote("bound", nil, []string{makeClaim, "create pods shop-1f2e/" + pod.Name})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
		claim, err := l.home.CoreV1().PersistentVolumeClaims("shop").Get(t.Context(), "data", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		claim.Spec.Resources.Requests = gigabytes(2)
		l.put(l.home, "persistentvolumeclaims", claim)
		l.settle()
		l.wrote("more is asked for", nil, []string{"update persistentvolumeclaims shop-1f2e/data"})
		twin, err := l.peer.CoreV1().PersistentVolumeClaims("shop-1f2e").Get(t.Context(), "data", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		twin.Status.Capacity = gigabytes(2)
		l.put(l.peer, "persistentvolumeclaims", twin)
		l.settle()
		l.wrote("the peer has it", []string{"patch persistentvolumes /pvc-c1", "patch persistentvolumeclaims/status shop/data"}, nil)
	})
}

func TestLoop_VolumesAreDeleted(t *testing.T) {
	for name, row := range map[string]struct {
		policy     corev1.PersistentVolumeReclaimPolicy
		home, peer []string
		lost       bool
	}{
		"Delete":                        {corev1.PersistentVolumeReclaimDelete, []string{freeVolume, endVolume}, []string{endClaim}, false},
		"Retain":                        {corev1.PersistentVolumeReclaimRetain, nil, nil, false},
		"Delete, while the peer's lost": {corev1.PersistentVolumeReclaimDelete, []string{freeVolume, endVolume}, []string{endClaim}, true},
	} {
		t.Run(name, func(t *testing.T) {
			runLoop(t, objects(waitingClaim("far"), volumeClass(nil), nodeOf("far", "west")), nil, nil, func(l *loop) {
				l.bind()
				l.wrote("made", []string{makeVolume}, []string{makeClaim})
				l.pair.SetLost(row.lost, time.Now())
				l.release(row.policy)
				if row.lost {
					l.wrote("nothing is known of the twin", nil, nil)
					l.pair.SetLost(false, time.Time{})
					l.settle()
				}
				l.wroteOnce("deleted at home", row.home, row.peer)
				if diff := cmp.Diff(row.home == nil, len(l.pair.Wanted()) == 1 && len(l.pair.home.volumes.of("west")) == 1); diff != "" {
					t.Errorf("the volume is kept (-want +got):\n%s", diff)
				}
				l.pass(time.Hour)
				l.wrote("an hour later", nil, nil)
			})
		})
	}
}

// TestLoop_VolumeOfAnEarlierClaim: a new claim of the name does not get the data that was retained.
func TestLoop_VolumeOfAnEarlierClaim(t *testing.T) {
	runLoop(t, objects(waitingClaim("far"), volumeClass(nil), nodeOf("far", "west")), nil, nil, func(l *loop) {
		l.bind()
		l.release(corev1.PersistentVolumeReclaimRetain)
		l.writes(l.home)
		l.writes(l.peer)
		again := waitingClaim("far")
		again.UID, again.Spec.VolumeName = types.UID("c2"), "pvc-c2"
		again.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: gigabytes(1)}
		facts := volumeFacts{claim: again, class: volumeClass(nil), node: nodeOf("far", "west")}
		pv := planVolume(facts).pv
		pv.Status.Phase = corev1.VolumeBound
		for _, o := range objects(pv, again) {
			if err := l.home.Tracker().Add(o); err != nil {
				t.Fatal(err)
			}
		}
		l.pass(time.Minute)
		l.wrote("a claim of the same name", nil, nil)
		select {
		case said := <-l.events.Events:
			if !strings.Contains(said, "an earlier claim of that name is retained there") {
				t.Errorf("said %q", said)
			}
		default:
			t.Error("nobody is told")
		}
	})
}

// TestLoop_PeerGone: a peer that will not answer again does not keep volumes.
func TestLoop_PeerGone(t *testing.T) {
	runLoop(t, objects(waitingClaim("far"), volumeClass(nil), nodeOf("far", "west")), nil, nil, func(l *loop) {
		l.bind()
		l.pair.SetLost(true, time.Now())
		l.wrote("made", []string{makeVolume}, []string{makeClaim})
		if names, known := l.pair.home.Volumes("west"); !known || len(names) != 1 || names[0] != "shop/data" {
			t.Errorf("volumes at the peer: %v %v", names, known)
		}
		for range 2 {
			if done, err := l.pair.home.DropVolumes(t.Context(), "west"); done || err != nil {
				t.Errorf("dropped: %v %v", done, err)
			}
			l.settle()
		}
		if done, err := l.pair.home.DropVolumes(t.Context(), "west"); !done || err != nil {
			t.Errorf("dropped: %v %v", done, err)
		}
		l.wroteOnce("given up", []string{freeVolume, endVolume}, nil)
	})
}

// TestLoop_VolumesAfterRestart: a new process writes nothing, and knows what to do with a volume that was released meanwhile.
func TestLoop_VolumesAfterRestart(t *testing.T) {
	claim := waitingClaim("far")
	pv := planVolume(volumeFacts{claim: claim, class: volumeClass(nil), node: nodeOf("far", "west")}).pv
	pv.Status.Phase = corev1.VolumeBound
	claim.Spec.VolumeName = pv.Name
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: gigabytes(1)}
	twin := translate.PersistentVolumeClaim(claim, "", translate.Env{Origin: "consumer-1", RemoteNamespace: "shop-1f2e"})
	twin.UID = "t1"
	runLoop(t, objects(claim, pv), objects(twin), nil, func(l *loop) {
		l.pass(time.Hour)
		l.wrote("an hour after the start", nil, nil)
	})
	left := pv.DeepCopy()
	left.Status.Phase = corev1.VolumeReleased
	lost := func(l *loop) { l.pair.SetLost(true, time.Now()) } // these servers do not tell what happens between a list and its watch
	runLoop(t, objects(left), objects(twin.DeepCopy()), lost, func(l *loop) {
		l.pair.SetLost(false, time.Time{})
		l.pass(time.Hour)
		l.wroteOnce("released meanwhile", []string{freeVolume, endVolume}, []string{endClaim})
	})
	deleted := left.DeepCopy()
	now := metav1.Now()
	deleted.DeletionTimestamp, deleted.Spec.PersistentVolumeReclaimPolicy = &now, corev1.PersistentVolumeReclaimRetain
	runLoop(t, objects(pv.DeepCopy()), objects(twin.DeepCopy()), nil, func(l *loop) {
		l.put(l.home, "persistentvolumes", deleted)
		l.pass(time.Hour)
		l.wroteOnce("somebody deletes a retained volume", []string{freeVolume}, nil)
	})
}

// TestLoop_VolumesOfNobody: a volume of a peer that was un-peered while nobody worked is given up when it is released, one of a peer
// that is only not attached yet is not.
func TestLoop_VolumesOfNobody(t *testing.T) {
	for name, row := range map[string]struct {
		node *corev1.Node
		want []string
	}{
		"un-peered":        {nodeOf("n1", ""), []string{freeVolume, endVolume}},
		"not attached yet": {nodeOf("spillway-south", "south"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			pv := planVolume(volumeFacts{claim: waitingClaim("x"), class: volumeClass(nil), node: nodeOf("x", "south")}).pv
			pv.Status.Phase = corev1.VolumeBound
			runLoop(t, objects(pv.DeepCopy(), row.node), nil, nil, func(l *loop) {
				pv.Status.Phase = corev1.VolumeReleased
				l.put(l.home, "persistentvolumes", pv)
				l.pass(time.Hour)
				l.wroteOnce("released", row.want, nil)
			})
		})
	}
}

// TestLoop_VolumeAtHome: the first pod lands on a real node.
func TestLoop_VolumeAtHome(t *testing.T) {
	disk := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "disk", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: "example.com/disk",
	}
	source := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk-7"}, Spec: corev1.PersistentVolumeSpec{
		Capacity:               gigabytes(1),
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/disk"}},
	}}
	runLoop(t, objects(waitingClaim("n1"), volumeClass(nil), nodeOf("n1", ""), disk, source), nil, nil, func(l *loop) {
		l.wrote("the scheduler has chosen", []string{"create persistentvolumeclaims spillway-system/pvc-c1"}, nil)
		behind, err := l.home.CoreV1().PersistentVolumeClaims("spillway-system").Get(t.Context(), "pvc-c1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		behind.Spec.VolumeName, behind.Status = source.Name, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: gigabytes(1)}
		l.put(l.home, "persistentvolumeclaims", behind)
		l.settle()
		l.wrote("its provisioner has made it", []string{makeVolume}, nil)
		l.bind()
		l.release(corev1.PersistentVolumeReclaimDelete)
		l.wroteOnce("deleted", []string{"delete persistentvolumeclaims spillway-system/pvc-c1", freeVolume, endVolume}, nil)
	})
}
