package translate

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// web is a small local pod.
func web() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "1111", Generation: 1,
			Labels:      map[string]string{"app": "web"},
			Annotations: map[string]string{"note": "hello"},
		},
		Spec: corev1.PodSpec{
			NodeName:       "spillway-peer",
			RestartPolicy:  corev1.RestartPolicyAlways,
			InitContainers: []corev1.Container{{Name: "setup", Image: "setup:1"}},
			Containers: []corev1.Container{
				{Name: "web", Image: "web:1", Resources: resources("100m", "64Mi")},
				{Name: "log", Image: "log:1"},
			},
			Tolerations: []corev1.Toleration{{Key: TaintVirtualNode, Operator: corev1.TolerationOpExists}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func resources(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}

// admitted returns the twin of local after a provider has put all it likes on it.
func admitted(local *corev1.Pod) *corev1.Pod {
	twin := Twin(local, testEnv())
	twin.ManagedFields = wrote(local)
	grace, seconds := int64(30), int64(300)
	twin.Labels["provider/team"] = "blue"
	twin.Annotations["cni/ip"] = "10.0.0.7"
	twin.Spec.ServiceAccountName = "default"
	twin.Spec.SchedulerName = "default-scheduler"
	twin.Spec.NodeName = "worker-1"
	twin.Spec.TerminationGracePeriodSeconds = &grace
	twin.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "mirror"}}
	twin.Spec.Tolerations = append(twin.Spec.Tolerations, corev1.Toleration{
		Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
	})
	twin.Spec.Containers = append([]corev1.Container{{Name: "mesh", Image: "mesh:9"}}, twin.Spec.Containers...)
	for i := range twin.Spec.Containers {
		c := &twin.Spec.Containers[i]
		c.Image = "mirror.example/" + c.Image
		c.ImagePullPolicy = corev1.PullAlways
		if c.Resources.Requests == nil {
			c.Resources = resources("0", "0")
		}
		c.Resources.Limits = resources("2", "1Gi").Requests
	}
	return twin
}

// wrote is the API server's record of the labels and annotations that we wrote on local's twin.
func wrote(local *corev1.Pod) []metav1.ManagedFieldsEntry {
	fields := `{"f:metadata":{"f:labels":{".":{}`
	for key := range local.Labels {
		fields += `,"f:` + key + `":{}`
	}
	fields += `},"f:annotations":{".":{}`
	for key := range local.Annotations {
		fields += `,"f:` + key + `":{}`
	}
	fields += `}}}`
	return []metav1.ManagedFieldsEntry{
		{Manager: "kubelet", Subresource: "status", FieldsV1: &metav1.FieldsV1{}},
		{Manager: FieldManager, Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: metav1.NewFieldsV1(fields)},
	}
}

func TestDrift(t *testing.T) {
	type pods struct{ local, twin *corev1.Pod }
	for name, row := range map[string]struct {
		change      func(p pods)
		patch       string
		subresource string
	}{
		"what the provider adds is no drift": {},
		"a pod that already runs elsewhere in its status": {
			change: func(p pods) { p.twin.Status.Phase = corev1.PodRunning },
		},
		"another image": {
			change: func(p pods) { p.local.Spec.Containers[0].Image = "web:2" },
			patch: `{"metadata":{"annotations":{"spillway.dev/origin-images":"HASHES"}},` +
				`"spec":{"containers":[{"image":"web:2","name":"web"}]}}`,
		},
		"another image of an init container": {
			change: func(p pods) { p.local.Spec.InitContainers[0].Image = "setup:2" },
			patch: `{"metadata":{"annotations":{"spillway.dev/origin-images":"HASHES"}},` +
				`"spec":{"initContainers":[{"image":"setup:2","name":"setup"}]}}`,
		},
		"another image, and nothing is known of the last one": {
			change: func(p pods) {
				p.local.Spec.Containers[0].Image = "web:2"
				delete(p.twin.Annotations, AnnotationImages)
			},
			patch: `{"metadata":{"annotations":{"spillway.dev/origin-images":"HASHES"}},` +
				`"spec":{"containers":[{"image":"web:2","name":"web"},{"image":"log:1","name":"log"}]}}`,
		},
		"a label and an annotation are added or changed": {
			change: func(p pods) {
				p.local.Labels["tier"] = "front"
				p.local.Annotations["note"] = "bye"
			},
			patch: `{"metadata":{"annotations":{"note":"bye"},"labels":{"tier":"front"}}}`,
		},
		"a label and an annotation go": {
			change: func(p pods) { p.local.Labels, p.local.Annotations = nil, nil },
			patch:  `{"metadata":{"annotations":{"note":null},"labels":{"app":null}}}`,
		},
		"without the record of who wrote what no label goes": {
			change: func(p pods) { p.local.Labels, p.local.Annotations, p.twin.ManagedFields = nil, nil, nil },
		},
		"a record that nobody can read removes nothing": {
			change: func(p pods) {
				p.local.Labels = nil
				p.twin.ManagedFields[1].FieldsV1 = metav1.NewFieldsV1(`{"f:metadata":[`)
			},
		},
		"names of ours on the local pod stay at home": {
			change: func(p pods) {
				p.local.Labels[LabelOrigin] = "another consumer"
				p.local.Annotations[AnnotationOriginUID] = "2222"
				p.local.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
				p.local.Labels[corev1.LabelTopologyZone] = "home-1a"
			},
		},
		"the label of the virtual node was taken off": {
			change: func(p pods) { delete(p.twin.Labels, LabelNode) },
			patch:  `{"metadata":{"labels":{"spillway.dev/virtual-node":"spillway-peer"}}}`,
		},
		"a deadline is set": {
			change: func(p pods) { p.local.Spec.ActiveDeadlineSeconds = ptr(60) },
			patch:  `{"spec":{"activeDeadlineSeconds":60}}`,
		},
		"a longer deadline is refused by the API": {
			change: func(p pods) { p.local.Spec.ActiveDeadlineSeconds, p.twin.Spec.ActiveDeadlineSeconds = ptr(60), ptr(30) },
		},
		"a negative grace period becomes 1": {
			change: func(p pods) {
				p.local.Spec.TerminationGracePeriodSeconds, p.twin.Spec.TerminationGracePeriodSeconds = ptr(1), ptr(-1)
			},
			patch: `{"spec":{"terminationGracePeriodSeconds":1}}`,
		},
		"a toleration is added": {
			change: func(p pods) {
				p.local.Spec.Tolerations = append(p.local.Spec.Tolerations, corev1.Toleration{Key: "gpu", Operator: corev1.TolerationOpExists})
			},
			patch: `{"spec":{"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute",` +
				`"tolerationSeconds":300},{"key":"gpu","operator":"Exists"}]}}`,
		},
		"a toleration gets other seconds": {
			change: func(p pods) {
				p.local.Spec.Tolerations = append(p.local.Spec.Tolerations, corev1.Toleration{
					Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr(10),
				})
			},
			patch: `{"spec":{"tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":10}]}}`,
		},
		"resources change": {
			change:      func(p pods) { p.local.Spec.Containers[0].Resources = resources("200m", "64Mi") },
			patch:       `{"spec":{"containers":[{"name":"web","resources":{"requests":{"cpu":"200m"}}}]}}`,
			subresource: SubresourceResize,
		},
		"resources of the whole pod change": {
			change:      func(p pods) { r := resources("1", "1Gi"); p.local.Spec.Resources = &r },
			patch:       `{"spec":{"resources":{"requests":{"cpu":"1","memory":"1Gi"}}}}`,
			subresource: SubresourceResize,
		},
		"an ephemeral container, without the mounts that the twin has not": {
			change: func(p pods) {
				p.local.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
					TargetContainerName: "web",
					EphemeralContainerCommon: corev1.EphemeralContainerCommon{
						Name: "debug", Image: "box", VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-x", MountPath: "/var/run"}},
					},
				}}
			},
			patch:       `{"spec":{"ephemeralContainers":[{"name":"debug","image":"box","resources":{},"targetContainerName":"web"}]}}`,
			subresource: SubresourceEphemeralContainers,
		},
		"the pod itself comes first": {
			change: func(p pods) {
				p.local.Labels["tier"] = "front"
				p.local.Spec.Containers[0].Resources = resources("200m", "64Mi")
			},
			patch: `{"metadata":{"labels":{"tier":"front"}}}`,
		},
		"a twin that is being deleted does not follow": {
			change: func(p pods) { p.local.Labels["tier"] = "front"; p.twin.DeletionTimestamp = &metav1.Time{} },
		},
		"a twin that has ended does not follow": {
			change: func(p pods) { p.local.Labels["tier"] = "front"; p.twin.Status.Phase = corev1.PodSucceeded },
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pods{local: web()}
			p.twin = admitted(p.local)
			if row.change != nil {
				row.change(p)
			}
			patch, subresource, err := Drift(p.local, p.twin, testEnv())
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(row.patch, "HASHES", imageHashes(&p.local.Spec), 1)
			if diff := gocmp.Diff(want, string(patch)); diff != "" || subresource != row.subresource {
				t.Errorf("subresource %q, want %q; patch (-want +got):\n%s", subresource, row.subresource, diff)
			}
			if patch != nil {
				settles(t, p.local, apply(t, p.twin, patch), subresource)
			}
		})
	}
}

func ptr(n int64) *int64 { return &n }

// settles checks that after a patch the same subresource has nothing left to say.
func settles(t *testing.T, local, twin *corev1.Pod, subresource string) {
	t.Helper()
	if patch, again, _ := Drift(local, twin, testEnv()); patch != nil && again == subresource {
		t.Errorf("after the patch there is still %s", patch)
	}
}

// TestDrift_LastEphemeralContainerFirst: an earlier one, which the provider may refuse for ever, keeps no later one away.
func TestDrift_LastEphemeralContainerFirst(t *testing.T) {
	local := web()
	twin := admitted(local)
	for _, name := range []string{"privileged", "debug"} {
		local.Spec.EphemeralContainers = append(local.Spec.EphemeralContainers, corev1.EphemeralContainer{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "box"},
		})
	}
	for _, want := range []string{"debug", "privileged"} {
		patch, subresource, err := Drift(local, twin, testEnv())
		if err != nil {
			t.Fatal(err)
		}
		if text := `{"spec":{"ephemeralContainers":[{"name":"` + want + `","image":"box","resources":{}}]}}`; string(patch) != text || subresource != SubresourceEphemeralContainers {
			t.Errorf("patch %s of %q, want %s", patch, subresource, text)
		}
		twin = apply(t, twin, patch)
	}
	if patch, _, err := Drift(local, twin, testEnv()); patch != nil || err != nil {
		t.Errorf("still drifts by %s (%v)", patch, err)
	}
}

// TestDrift_RandomPodsSettle: a new twin needs at most the ephemeral containers, and from any pod to any other a few
// patches are enough.
func TestDrift_RandomPodsSettle(t *testing.T) {
	fill := filler(3)
	for range randomPods / 4 {
		var local, other corev1.Pod
		fill.Fill(&local)
		fill.Fill(&other)
		local.Status, local.DeletionTimestamp = corev1.PodStatus{}, nil
		local.Spec.EphemeralContainers = nil
		twin := Twin(&local, testEnv())
		if patch, _, err := Drift(&local, twin, testEnv()); patch != nil || err != nil {
			t.Fatalf("a new twin drifts by %s (%v)", patch, err)
		}
		nameContainers(&local)
		twin = Twin(&local, testEnv())
		local.Labels, local.Annotations = other.Labels, other.Annotations
		local.Spec.Tolerations, local.Spec.ActiveDeadlineSeconds = other.Spec.Tolerations, other.Spec.ActiveDeadlineSeconds
		for i := range local.Spec.Containers {
			local.Spec.Containers[i].Image = "other"
			local.Spec.Containers[i].Resources = resources("1", "1Gi")
		}
		for round := 0; ; round++ {
			patch, _, err := Drift(&local, twin, testEnv())
			if err != nil {
				t.Fatal(err)
			}
			if patch == nil {
				break
			}
			if round == 2 {
				t.Fatalf("still drifts by %s", patch)
			}
			twin = apply(t, twin, patch)
		}
	}
}

func nameContainers(pod *corev1.Pod) {
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].Name = string(rune('a' + i))
	}
	for i := range pod.Spec.InitContainers {
		pod.Spec.InitContainers[i].Name = string(rune('m' + i))
	}
}

func TestTrimTwin_KeepsOurRecord(t *testing.T) {
	local := web()
	twin := admitted(local)
	TrimTwin(twin)
	if len(twin.ManagedFields) != 1 {
		t.Errorf("%d entries are left, want ours", len(twin.ManagedFields))
	}
	local.Labels = nil
	patch, _, _ := Drift(local, twin, testEnv())
	if want := `{"metadata":{"labels":{"app":null}}}`; string(patch) != want {
		t.Errorf("drift %s, want %s", patch, want)
	}
}
