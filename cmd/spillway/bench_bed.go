package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	bedPrefix = "spillway-bench-" // of the temporary namespace
	bedLabel  = "spillway.dev/bench"
	benchPort = 5201

	// cleanTimeout bounds taking the namespace away at the end, twins included.
	cleanTimeout = time.Minute
)

// Pods of a bed. The near ones run in this cluster, the far one in the peer.
const (
	nearServer = "near-server"
	farServer  = "far-server"
)

// bed is a temporary namespace, whose pods may leave, with pods that measure the network. Make it with newBed; clear it
// when done, whatever happened.
type bed struct {
	c         *cluster
	peering   *v1alpha1.Peering
	image     string
	steps     *steps
	namespace string // empty: not made yet
}

// errNoImage: nothing in the cluster tells which image has netbench.
var errNoImage = errors.New("no image")

// newBed makes the namespace.
func newBed(ctx context.Context, c *cluster, peering *v1alpha1.Peering, image string, s *steps) (*bed, error) {
	b := &bed{c: c, peering: peering, image: image, steps: s}
	if b.image == "" {
		found, err := findImage(ctx, c)
		if err != nil {
			return b, err
		}
		b.image = found
	}
	made, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   bedPrefix + fmt.Sprintf("%x", time.Now().UnixNano()&0xffffffff),
		Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled, labelManagedBy: managedBy, bedLabel: "network"},
	}}, metav1.CreateOptions{})
	if err != nil {
		return b, explain(c, "create a temporary namespace", err)
	}
	b.namespace = made.Name
	return b, nil
}

// findImage is the image that runs spillwayd in c: it has netbench too.
func findImage(ctx context.Context, c *cluster) (string, error) {
	apps := c.kube.AppsV1()
	deployments, err := apps.Deployments(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", explain(c, "list Deployments of "+v1alpha1.SystemNamespace, err)
	}
	daemonSets, err := apps.DaemonSets(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", explain(c, "list DaemonSets of "+v1alpha1.SystemNamespace, err)
	}
	var specs []corev1.PodSpec
	for i := range deployments.Items {
		specs = append(specs, deployments.Items[i].Spec.Template.Spec)
	}
	for i := range daemonSets.Items {
		specs = append(specs, daemonSets.Items[i].Spec.Template.Spec)
	}
	for _, spec := range specs {
		for _, container := range spec.Containers {
			if strings.Contains(container.Image, "spillwayd") {
				return container.Image, nil
			}
		}
	}
	p := problemf("Name one with --image; its entry point must take the arguments of spillwayd, such as netbench serve.",
		"no Deployment or DaemonSet in namespace %s of %s tells which image has spillwayd", v1alpha1.SystemNamespace, c.title())
	p.cause = errNoImage
	return "", p
}

// benchPod says which pod a bed is to make.
type benchPod struct {
	name string
	args []string // of netbench
	far  bool     // in the peer
	node string   // to run on; empty: any, but rather not that of near-server
}

func (b *bed) add(ctx context.Context, wish benchPod) error {
	pod := b.pod(wish)
	_, err := b.c.kube.CoreV1().Pods(b.namespace).Create(ctx, pod, metav1.CreateOptions{})
	return explain(b.c, fmt.Sprintf("create pod %s/%s", b.namespace, pod.Name), err)
}

// pod is what wish asks for. It satisfies the level restricted of the Pod Security Standards.
func (b *bed) pod(wish benchPod) *corev1.Pod {
	yes, no, user, deadline, grace := true, false, int64(65532), int64(900), int64(1)
	labels := map[string]string{bedLabel: wish.name, labelManagedBy: managedBy}
	spec := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ActiveDeadlineSeconds: &deadline, TerminationGracePeriodSeconds: &grace,
		AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: "netbench", Image: b.image, Args: append([]string{"netbench"}, wish.args...),
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
		}},
		Affinity: &corev1.Affinity{},
	}
	switch {
	case wish.far:
		spec.NodeSelector = map[string]string{v1alpha1.LabelPeer: b.peering.Name}
		spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.TaintVirtualNode, Operator: corev1.TolerationOpExists}}
	case wish.node != "":
		spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{wish.node}}}}},
		}}
	default:
		spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{bedLabel: nearServer}}},
		}}}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: wish.name, Namespace: b.namespace, Labels: labels}, Spec: spec}
}

// expose makes the near server an endpoint of a Service: only then may pods of the peer open connections to it.
func (b *bed) expose(ctx context.Context) error {
	_, err := b.c.kube.CoreV1().Services(b.namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: nearServer, Namespace: b.namespace, Labels: map[string]string{labelManagedBy: managedBy}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{bedLabel: nearServer}, ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: benchPort}}},
	}, metav1.CreateOptions{})
	return explain(b.c, fmt.Sprintf("create Service %s/%s", b.namespace, nearServer), err)
}

// running waits until the pod runs and has an address.
func (b *bed) running(ctx context.Context, name string) (*corev1.Pod, error) {
	return b.await(ctx, name, func(pod *corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != "" || ended(pod)
	})
}

// trip is what netbench run printed.
type trip struct {
	UpBitsPerSecond   float64 `json:"upBitsPerSecond"`
	DownBitsPerSecond float64 `json:"downBitsPerSecond"`
	TCP               latency `json:"tcp"`
	UDP               latency `json:"udp"`
}

// latency sums up round trips of 64 bytes.
type latency struct {
	Count        int     `json:"count"`
	Lost         int     `json:"lost"`
	MedianMicros float64 `json:"medianMicros"`
	P99Micros    float64 `json:"p99Micros"`
}

// measure runs a client against address and returns what it says and the pod it ran in. The result is the pod's
// termination message, which also comes home from a pod in the peer, whose logs do not.
func (b *bed) measure(ctx context.Context, wish benchPod, address netip.Addr) (trip, *corev1.Pod, error) {
	wish.args = append([]string{"run", "--target", netip.AddrPortFrom(address, benchPort).String(), "--message", corev1.TerminationMessagePathDefault}, wish.args...)
	if err := b.add(ctx, wish); err != nil {
		return trip{}, nil, err
	}
	pod, err := b.await(ctx, wish.name, ended)
	if err != nil {
		return trip{}, pod, err
	}
	message := ""
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Terminated != nil {
			message = strings.TrimSpace(status.State.Terminated.Message)
		}
	}
	var result trip
	if pod.Status.Phase != corev1.PodSucceeded || json.Unmarshal([]byte(message), &result) != nil {
		return trip{}, pod, problemf("Look at the tunnel: spillway doctor "+b.peering.Name+".", "pod %s on node %s measured nothing: %s",
			wish.name, orDash(pod.Spec.NodeName), orDash(message))
	}
	return result, pod, nil
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// await waits until done is true of the pod, and says what keeps it from that when ctx ends first.
func (b *bed) await(ctx context.Context, name string, done func(*corev1.Pod) bool) (*corev1.Pod, error) {
	var last *corev1.Pod
	err := follow(ctx, podsIn(b.c, b.namespace), named(name), func(pods map[string]*corev1.Pod) bool {
		if pod := pods[b.namespace+"/"+name]; pod != nil {
			last = pod
			b.steps.progress("pod %s is %s", name, whyPending(pod))
			return done(pod)
		}
		return false
	})
	switch {
	case err == nil:
		return last, nil
	case errors.Is(err, context.DeadlineExceeded) && last != nil:
		return last, problemf("Mend that, or give it more time with --timeout.", "pod %s did not come so far in time; it is %s", name, whyPending(last))
	}
	return last, explain(b.c, "watch pod "+name, err)
}

// whyPending is the phase of a pod and what holds it up.
func whyPending(pod *corev1.Pod) string {
	text := string(pod.Status.Phase)
	if text == "" {
		text = string(corev1.PodPending)
	}
	for _, c := range pod.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" && !ended(pod) {
			return text + ": " + c.Message
		}
	}
	for _, status := range pod.Status.ContainerStatuses {
		if waiting := status.State.Waiting; waiting != nil && waiting.Reason != "" {
			return strings.TrimSuffix(text+": "+waiting.Reason+" "+waiting.Message, " ")
		}
	}
	return text
}

// clear takes the namespace away with everything in it and waits until that is done, also when ctx has ended.
func (b *bed) clear(ctx context.Context) error {
	if b.namespace == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	command := fmt.Sprintf("kubectl --context %s delete namespace %s", b.c.context, b.namespace)
	// Pods first: a namespace that goes asks nobody how long a pod of the peer may take to end.
	pods := b.c.kube.CoreV1().Pods(b.namespace)
	if list, err := pods.List(ctx, metav1.ListOptions{}); err == nil {
		for i := range list.Items {
			_ = pods.Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{}) // the namespace's end takes what this leaves
		}
	}
	err := b.c.kube.CoreV1().Namespaces().Delete(ctx, b.namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return problemf("Remove it by hand: "+command, "the temporary namespace %s is still there: %s", b.namespace, serverWords(err))
	}
	err = follow(ctx, namespacesOf(b.c), named(b.namespace), func(found map[string]*corev1.Namespace) bool { return len(found) == 0 })
	if err != nil {
		return problemf("It goes by itself once its pods have; look at it with: kubectl --context "+b.c.context+" get all -n "+b.namespace, "the temporary namespace %s was deleted and is still there", b.namespace)
	}
	return nil
}

func podsIn(c *cluster, namespace string) source[*corev1.Pod] {
	pods := c.kube.CoreV1().Pods(namespace)
	return source[*corev1.Pod]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Pod, string, error) {
			list, err := pods.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: pods.Watch,
	}
}

func namespacesOf(c *cluster) source[*corev1.Namespace] {
	namespaces := c.kube.CoreV1().Namespaces()
	return source[*corev1.Namespace]{
		list: func(ctx context.Context, opts metav1.ListOptions) ([]*corev1.Namespace, string, error) {
			list, err := namespaces.List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return pointers(list.Items), list.ResourceVersion, nil
		},
		watch: namespaces.Watch,
	}
}

// addressOf parses the address of a running pod.
func addressOf(pod *corev1.Pod) (netip.Addr, error) {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return address, problemf("Look at the pod's events.", "pod %s/%s ended before it could be measured (%s)", pod.Namespace, pod.Name, whyPending(pod))
	}
	return address, nil
}

// seenThere is the address of a pod of this cluster as the peer sees it.
func seenThere(p *v1alpha1.Peering, address netip.Addr) netip.Addr {
	remote := remoteOf(p)
	if remote == nil {
		return address
	}
	for _, alias := range remote.Aliases {
		from, errFrom := netip.ParsePrefix(alias.Range)
		to, errTo := netip.ParsePrefix(alias.As)
		if errFrom == nil && errTo == nil && from.Bits() == to.Bits() && from.Contains(address) {
			return transplant(address, to)
		}
	}
	return address
}

// transplant is the address in range to that has the host bits of address.
func transplant(address netip.Addr, to netip.Prefix) netip.Addr {
	bytes, network := address.AsSlice(), to.Addr().AsSlice()
	for i := range bytes {
		mask := byte(0xff)
		if keep := to.Bits() - 8*i; keep >= 8 {
			mask = 0
		} else if keep > 0 {
			mask = 0xff >> keep
		}
		bytes[i] = bytes[i]&mask | network[i]&^mask
	}
	mapped, _ := netip.AddrFromSlice(bytes)
	return mapped
}
