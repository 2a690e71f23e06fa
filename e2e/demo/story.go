package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// namespace and deployment are what the user runs at home.
	namespace  = "shop"
	deployment = "web"

	patience  = time.Minute // with each thing that is to come true
	lookEvery = 100 * time.Millisecond
)

// manifest is the user's Deployment; image and pull policy are filled in.
const manifest = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations:                      # may leave the cluster
      - {key: spillway.dev/virtual-node, operator: Exists}
      topologySpreadConstraints:        # the same number on each node
      - {topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule,
         nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: %s
        imagePullPolicy: %s
        args: [serve]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`

// play tells the story. Each part returns an error when what it claims has not come true.
func (d *demo) play(ctx context.Context) error {
	d.show.plain("%s\n", d.show.strong("Spillway: pods of one Kubernetes cluster that run in another one"))
	if err := d.prepare(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		d.twoClusters, d.install, d.peer, d.deploy, d.scaleUp, d.heal, d.scaleDown, d.peak, d.comeHome, d.migrate, d.status, d.unpeer, d.proof,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) twoClusters(ctx context.Context) error {
	why := "Home stands for the machines you own, cloud for those you can borrow. They share nothing: each has its own API server,\n" +
		"etcd, scheduler, certificates and nodes."
	if !d.real {
		why += " Beside each runs one spillwayd."
	}
	d.show.heading("Two clusters, home and cloud", why)
	if err := d.up(ctx); err != nil {
		return err
	}
	for _, c := range d.clusters {
		nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list the nodes of %s: %w", c.name, err)
		}
		if len(nodes.Items) != nodesPerCluster {
			return fmt.Errorf("%s has %d nodes, not %d", c.name, len(nodes.Items), nodesPerCluster)
		}
	}
	d.show.ok("%d nodes of its own in each", nodesPerCluster)
	return nil
}

// install puts Spillway into both clusters, where its pods can run, and notes what is there before peering.
func (d *demo) install(ctx context.Context) error {
	if d.real {
		d.show.heading("Install Spillway in both",
			"One command for each cluster: it looks whether the cluster is fit, installs the Helm chart that it carries, and waits until all\n"+
				"of it works. (The nodes have the image already.)")
		for _, name := range []string{home, cloud} {
			if err := d.do(ctx, "spillway", "install", "--context", name); err != nil {
				return err
			}
		}
		if err := d.do(ctx, "kubectl", "--context", home, "get", "pods", "-A", "-l", "app.kubernetes.io/name=spillway", "-o", "wide"); err != nil {
			return err
		}
		d.show.ok("Spillway runs in both")
	}
	for _, c := range d.clusters {
		var err error
		if c.before, err = d.settled(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// settled takes an inventory of a cluster whose start is over: two in a row are the same.
func (d *demo) settled(ctx context.Context, c *cluster) (inventory, error) {
	var last inventory
	err := d.until(ctx, func(ctx context.Context) (bool, error) {
		now, err := c.takeInventory(ctx)
		same := len(last.objects) > 0 && len(difference(last, now)) == 0 && begun(now, d.real)
		last = now
		return same, err
	})
	return last, err
}

// begun says whether the spillwayd of a cluster has made what it needs for itself: that is there before any peering.
func begun(now inventory, realNodes bool) bool {
	own := []string{
		"leases spillway-system/spillwayd", "secrets spillway-system/" + v1alpha1.WebhookName,
		"certificatesigningrequests csr-", // of the kubelet API; their names end in something random, as those of mirrored endpoints
	}
	if realNodes {
		own = append(own, "endpointslices spillway-system/"+v1alpha1.UsageService)
	}
	return !slices.ContainsFunc(own, func(prefix string) bool {
		for name := range now.objects {
			if strings.HasPrefix(name, prefix) {
				return false
			}
		}
		return true
	})
}

func (d *demo) peer(ctx context.Context) error {
	d.show.heading("Peer them",
		"Home may borrow from the cloud. The cloud makes home an identity with rights in home's own namespaces there, and nothing else.")
	if err := d.do(ctx, "spillway", "peer", "--context", home, "--remote-context", cloud); err != nil {
		return err
	}
	d.show.ok("the cloud is a node at home now, with what its real nodes have free")
	return d.do(ctx, "kubectl", "--context", home, "get", "nodes",
		"-o=custom-columns=NAME:.metadata.name,CPU:.status.allocatable.cpu,MEMORY:.status.allocatable.memory,PODS:.status.allocatable.pods")
}

func (d *demo) deploy(ctx context.Context) error {
	d.show.heading("Run something: 6 pods",
		"A plain Deployment at home. Two things let its pods leave: the label on the namespace, and a toleration. The stock scheduler\n"+
			"then spreads them evenly over the nodes it sees, and the virtual node is one of them.")
	if err := d.do(ctx, "kubectl", "--context", home, "create", "namespace", namespace); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "--context", home, "label", "namespace", namespace, "spillway.dev/offload=enabled"); err != nil {
		return err
	}
	image, pull := d.appImage()
	text := fmt.Sprintf(manifest, image, pull)
	for line := range strings.Lines(text) {
		d.show.plain("     %s", d.show.dim(strings.TrimRight(line, "\n")))
	}
	if err := d.doWith(ctx, text, "kubectl", "--context", home, "apply", "-f", "-"); err != nil {
		return err
	}
	return d.expectSpread(ctx, 6)
}

func (d *demo) scaleUp(ctx context.Context) error {
	d.show.heading("Scale up to 9", "The usual command. Nobody tells the new pods which cluster to run in.")
	if err := d.scale(ctx, 9); err != nil {
		return err
	}
	return d.expectSpread(ctx, 9)
}

func (d *demo) scaleDown(ctx context.Context) error {
	d.show.heading("Scale down to 6", "A pod that is deleted at home goes only when its twin has ended. Afterwards there is one twin per pod, none is left over.")
	if err := d.scale(ctx, 6); err != nil {
		return err
	}
	return d.expect(ctx, 6)
}

func (d *demo) scale(ctx context.Context, n int) error {
	return d.do(ctx, "kubectl", "--context", home, "-n", namespace, "scale", "deployment/"+deployment, fmt.Sprintf("--replicas=%d", n))
}

// expectSpread is expect for pods that the scheduler has spread evenly: the virtual node has as many as each other node.
func (d *demo) expectSpread(ctx context.Context, n int) error {
	if err := d.expect(ctx, n); err != nil {
		return err
	}
	all, err := d.look(ctx)
	if even := n / (nodesPerCluster + 1); err == nil && countAway(all) != even {
		err = fmt.Errorf("the scheduler put %d pods on the virtual node, not %d", countAway(all), even)
	}
	return err
}

// expect waits for n Ready pods, each of which really runs in exactly one place, and shows them.
func (d *demo) expect(ctx context.Context, n int) error {
	var all []whereabouts
	wrong := errors.New("nothing was seen")
	err := d.until(ctx, func(ctx context.Context) (bool, error) {
		found, err := d.look(ctx)
		if err != nil {
			return false, err
		}
		twins, err := d.twins(ctx)
		if err != nil {
			return false, err
		}
		all, wrong = found, judge(found, len(twins), n)
		return wrong == nil, nil
	})
	if err != nil {
		d.tell(all)
		return fmt.Errorf("there should be %d Ready pods, each running in one place, but %w (%w)", n, wrong, err)
	}
	away := countAway(all)
	d.show.ok("%d pods Ready: %d on home's own nodes, %d in the cloud", n, n-away, away)
	d.tell(all)
	return nil
}

// judge says what is wrong with pods and twins; nil when there are n pods, all Ready at home and where they run, and
// no twin too many.
func judge(all []whereabouts, twins, n int) error {
	if len(all) != n {
		return fmt.Errorf("there are %d", len(all))
	}
	for _, w := range all {
		switch {
		case w.pod.Spec.NodeName == "":
			return fmt.Errorf("pod %s is on no node", w.pod.Name)
		case w.away() && w.twin == nil:
			return fmt.Errorf("pod %s has no twin", w.pod.Name)
		case !ready(&w.pod):
			return fmt.Errorf("pod %s is not Ready", w.pod.Name)
		case !ready(w.running()):
			return fmt.Errorf("the twin of pod %s is not Ready", w.pod.Name)
		}
	}
	if away := countAway(all); away != twins {
		return fmt.Errorf("%d pods have %d twins", away, twins)
	}
	return nil
}

func countAway(all []whereabouts) int {
	n := 0
	for _, w := range all {
		if w.away() {
			n++
		}
	}
	return n
}

func (d *demo) heal(ctx context.Context) error {
	d.show.heading("A twin is deleted behind our back",
		"An administrator of the cloud deletes a pod there. The pod at home stays the same one; it gets a new twin.")
	all, err := d.look(ctx)
	if err != nil {
		return err
	}
	var victim whereabouts
	for _, w := range all {
		if w.away() && w.twin != nil {
			victim = w
		}
	}
	if victim.twin == nil {
		return errors.New("there is no twin to delete")
	}
	if err := d.do(ctx, "kubectl", "--context", cloud, "-n", victim.twin.Namespace, "delete", "pod", victim.twin.Name); err != nil {
		return err
	}
	var now whereabouts
	err = d.until(ctx, func(ctx context.Context) (bool, error) {
		now = whereabouts{}
		found, err := d.look(ctx)
		for _, w := range found {
			if w.pod.UID == victim.pod.UID {
				now = w
			}
		}
		return now.twin != nil && now.twin.UID != victim.twin.UID && ready(now.twin) && ready(&now.pod), err
	})
	if now.pod.UID != victim.pod.UID {
		return fmt.Errorf("pod %s at home was replaced, it should have stayed", victim.pod.Name)
	}
	if err != nil {
		return fmt.Errorf("pod %s did not get a new twin: %w", victim.pod.Name, err)
	}
	d.show.ok("healed: pod %s is still the same at home and has another twin", victim.pod.Name)
	d.show.table([]string{
		"\tBEFORE\tNOW",
		fmt.Sprintf("pod at home, uid\t%s\t%s", victim.pod.UID, now.pod.UID),
		fmt.Sprintf("twin, uid\t%s\t%s", victim.twin.UID, now.twin.UID),
	})
	return nil
}

func (d *demo) status(ctx context.Context) error {
	d.show.heading("How is it?", "From either side.")
	if err := d.do(ctx, "spillway", "status", "--context", home); err != nil {
		return err
	}
	return d.do(ctx, "spillway", "status", "--context", cloud)
}

func (d *demo) unpeer(ctx context.Context) error {
	d.show.heading("Un-peer",
		"The pods come home, then everything that was made for the peering goes, in both clusters. Kubernetes itself waits 5 s\n"+
			"before it empties a namespace.")
	if err := d.do(ctx, "spillway", "unpeer", cloud, "--context", home); err != nil {
		return err
	}
	if err := d.expect(ctx, 6); err != nil {
		return err
	}
	all, err := d.look(ctx)
	if err == nil && countAway(all) > 0 {
		err = fmt.Errorf("%d pods are still bound to the virtual node", countAway(all))
	}
	return err
}

func (d *demo) proof(ctx context.Context) error {
	d.show.heading("Nothing is left",
		"Every object of every kind in both clusters is compared with what was there before peering: Events aside, home's namespace\n"+
			"shop, which is yours, and the keys and Leases of each cluster's own gateways, which they keep for the next peering.")
	for _, name := range []string{home, cloud} {
		c := d.clusters[name]
		now, err := d.checkSame(ctx, c)
		if err != nil {
			return err
		}
		d.show.ok("%s: %d objects of %d kinds, the very same as before", name, len(now.objects), now.kinds)
	}
	for _, query := range [][]string{
		{"kubectl", "--context", cloud, "get", "namespaces,clusterroles,clusterrolebindings", "-l", "spillway.dev/tenant"},
		{"kubectl", "--context", cloud, "get", "pods,configmaps,secrets", "-A", "-l", "spillway.dev/origin"},
		{"kubectl", "--context", home, "get", "nodes", "-l", "spillway.dev/peer"},
		{"kubectl", "--context", home, "get", "peerings"},
	} {
		if err := d.do(ctx, query...); err != nil {
			return err
		}
	}
	return nil
}

// until looks again and again until done, an error or the end of patience.
func (d *demo) until(ctx context.Context, done wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextTimeout(ctx, lookEvery, patience, true, done)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("after waiting for %s", patience)
	}
	return err
}
