package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/e2e/load"
)

const (
	// client asks the Service cart all the time while it moves.
	client = "client"
	rate   = 200 // requests per second
	// tellEvery is how many seconds of requests make a line.
	tellEvery = 3
)

// migrate moves the carts to the cloud in steps, and home again.
func (d *demo) migrate(ctx context.Context) error {
	why := "Now on purpose: one pod first, then half of them, then all. After each step the pods have to be Ready for 2 s before the next\n" +
		"begins, and each pod leaves only when its successor is Ready.\n"
	if d.real {
		why += fmt.Sprintf("Meanwhile a pod at home asks the Service %d times per second, over a new connection each time.", rate)
	} else {
		why += "(Simulated pods answer nobody: with real nodes requests would run meanwhile.)"
	}
	d.show.heading("Move a workload to the cloud, in steps", why)
	asked, stop, err := d.ask(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := d.move(ctx, asked, cloud, "--steps", "10,50,100", "--soak", "2s"); err != nil {
		return err
	}
	d.show.heading("And back", "The same way home, in one step: some at a time all the same.")
	if err := d.move(ctx, asked, "home", "--soak", "2s"); err != nil {
		return err
	}
	stop()
	ours := []string{"deployment/" + cart, "service/" + cart}
	if d.real {
		ours = append(ours, "pod/"+client)
	}
	if err := d.do(ctx, "kubectl", "--context", home, "-n", namespace, "delete", "migrations.spillway.dev", "--all"); err != nil {
		return err
	}
	return d.do(ctx, append([]string{"kubectl", "--context", home, "-n", namespace, "delete"}, ours...)...)
}

// move migrates the carts, and checks that they are there and that no request failed.
func (d *demo) move(ctx context.Context, asked *requests, to string, how ...string) error {
	began := time.Now()
	words := []string{"spillway", "migrate", "deployment/" + cart, "-n", namespace, "--context", home, "--to", to}
	asked.tell(true)
	err := d.do(ctx, append(words, how...)...)
	asked.tell(false)
	if err != nil {
		return err
	}
	here, there := cartPods, 0
	if to == cloud {
		here, there = 0, cartPods
	}
	if err := d.expectOf(ctx, cart, here, there); err != nil {
		return err
	}
	if asked == nil {
		return nil
	}
	return d.noneFailed(ctx, asked, began)
}

// noneFailed waits until the requests of this moment are known, and checks that none has failed since began.
func (d *demo) noneFailed(ctx context.Context, asked *requests, began time.Time) error {
	now := time.Now()
	err := d.until(ctx, func(context.Context) (bool, error) { return asked.tally.Last().After(now.Add(2 * time.Second)), nil })
	if err != nil {
		return fmt.Errorf("the requests are not counted any more: %w", err)
	}
	sum := asked.tally.Since(began)
	if sum.Failed > 0 || sum.OK == 0 {
		return fmt.Errorf("requests failed while pods moved: %s", sum)
	}
	here, there := places(sum.Nodes)
	d.show.ok("%d requests, %.0f per second, no error: %d answered at home, %d in the cloud; the slowest took %s", sum.OK, sum.Rate(), here, there, sum.Slowest)
	return nil
}

// places adds up answers by the cluster of the node that gave them.
func places(nodes map[string]int) (here, there int) {
	for node, n := range nodes {
		if strings.Contains(node, cloud) {
			there += n
		} else {
			here += n
		}
	}
	return here, there
}

// requests are those that the client makes. A nil one has none.
type requests struct {
	tally load.Tally

	mu      sync.Mutex // guards what follows
	telling bool
	last    []load.Second // not told yet
}

// tell says whether lines are shown.
func (r *requests) tell(on bool) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.telling, r.last = on, nil
}

// add takes one more second, and returns what there is to tell: a line for every few seconds; else empty.
func (r *requests) add(s load.Second) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.telling {
		return ""
	}
	r.last = append(r.last, s)
	if len(r.last) < tellEvery {
		return ""
	}
	line := rateLine(r.last)
	r.last = nil
	return line
}

// rateLine says what came of some seconds of requests.
func rateLine(seconds []load.Second) string {
	ok, failed, here, there := 0, 0, 0, 0
	for _, s := range seconds {
		h, t := places(s.Nodes)
		ok, failed, here, there = ok+s.OK, failed+s.Failed, here+h, there+t
	}
	return fmt.Sprintf("%3d requests/s, %d errors; answered at home %3d %%, in the cloud %3d %%",
		(ok+failed)/len(seconds), failed, percent(here, ok), percent(there, ok))
}

func percent(part, of int) int {
	if of == 0 {
		return 0
	}
	return (100*part + of/2) / of
}

// ask starts the client and follows what it says. stop ends the following; it may be called twice. Without real nodes there is none.
func (d *demo) ask(ctx context.Context) (asked *requests, stop func(), err error) {
	if !d.real {
		return nil, func() {}, nil
	}
	kube := d.clusters[home].kube
	service, err := kube.CoreV1().Services(namespace).Get(ctx, cart, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read Service %s: %w", cart, err)
	}
	image, pull := d.appImage()
	err = d.do(ctx, "kubectl", "--context", home, "-n", namespace, "run", client, "--image="+image, "--image-pull-policy="+pull,
		"--", "load", "http://"+service.Spec.ClusterIP+"/", fmt.Sprint(rate))
	if err != nil {
		return nil, nil, err
	}
	err = d.until(ctx, func(ctx context.Context) (bool, error) {
		pod, err := kube.CoreV1().Pods(namespace).Get(ctx, client, metav1.GetOptions{})
		return err == nil && ready(pod), err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("pod %s does not run: %w", client, err)
	}
	lines, err := kube.CoreV1().Pods(namespace).GetLogs(client, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read the log of pod %s: %w", client, err)
	}
	asked = &requests{}
	asked.tally.Each = func(s load.Second) {
		if line := asked.add(s); line != "" {
			d.show.plain("     %s", line)
		}
	}
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(&asked.tally, lines) }) // it ends with stop; whoever misses a second says so
	stop = sync.OnceFunc(func() { _ = lines.Close(); read.Wait() })
	err = d.until(ctx, func(context.Context) (bool, error) { return asked.tally.Since(time.Time{}).OK > 0, nil })
	if err != nil {
		stop()
		return nil, nil, errors.Join(fmt.Errorf("no request is answered: %s", asked.tally.Since(time.Time{})), err)
	}
	return asked, stop, nil
}
