// Program services measures how soon a Service of home is at the provider: in the lab, with everything on.
//
//	make bench-services
//
// Times are from before the call that makes the last of a Service's objects at home until a watch of the provider has told of
// it there. One machine runs both clusters.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	namespace  = "shop"
	openWithin = time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench services:", err)
		os.Exit(1)
	}
}

type options struct {
	count, rate, many int
}

func run(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("services", flag.ContinueOnError)
	var o options
	f.IntVar(&o.count, "count", 200, "Services made one by one, and as many under load")
	f.IntVar(&o.rate, "rate", 50, "Services a second under load")
	f.IntVar(&o.many, "many", 20, "Services of 1000 endpoints")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{Clusters: lab.DefaultClusters(1), Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Down(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	b, err := newBed(ctx, l)
	if err != nil {
		return err
	}
	return b.measure(ctx, o)
}

// newBed peers the two clusters of the lab and has namespace at both.
func newBed(ctx context.Context, l *lab.Lab) (*bed, error) {
	if err := l.StartSpillway(ctx, lab.SpillwayOptions{}); err != nil {
		return nil, err
	}
	clusters := l.Clusters()
	home, err := kubernetes.NewForConfig(clusters[0].Config())
	if err != nil {
		return nil, err
	}
	peer, err := kubernetes.NewForConfig(clusters[1].Config())
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "spillway-services-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "spillway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/spillway").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build (run from the root of the checkout): %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, program, "peer", "--kubeconfig", l.Kubeconfig(), "--context", clusters[0].Name(), "--remote-context", clusters[1].Name()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("peer: %w\n%s", err, out)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{v1alpha1.LabelOffload: v1alpha1.OffloadEnabled}}}
	if _, err := home.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	b := &bed{home: home, peer: peer}
	return b, b.open(ctx)
}

// open waits until the provider has the namespace and Services follow to it.
func (b *bed) open(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, openWithin, true, func(ctx context.Context) (bool, error) {
		list, err := b.peer.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelTenant})
		if err != nil {
			return false, err
		}
		for _, ns := range list.Items {
			if ns.Annotations[v1alpha1.AnnotationOriginNamespace] == namespace {
				b.remote = ns.Name
			}
		}
		return b.remote != "", nil
	})
	if err != nil {
		return fmt.Errorf("wait for the tenant namespace: %w", err)
	}
	if err := b.watch(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	if _, err := b.one(bounded, "first", 1); err != nil {
		return fmt.Errorf("the first Service does not follow: %w", err)
	}
	return nil
}

func (b *bed) measure(ctx context.Context, o options) error {
	alone, err := b.series(ctx, "alone", o.count, 100)
	if err != nil {
		return err
	}
	loaded, err := b.load(ctx, o)
	if err != nil {
		return err
	}
	many, err := b.series(ctx, "many", o.many, 1000)
	if err != nil {
		return err
	}
	ok := true
	for _, row := range []struct {
		name  string
		got   time.Duration
		bound time.Duration
	}{
		{fmt.Sprintf("Service of 100 endpoints, median of %d", len(alone)), at(alone, 50), 20 * time.Millisecond},
		{fmt.Sprintf("the same, p99 while %d a second are made", o.rate), at(loaded, 99), 100 * time.Millisecond},
		{fmt.Sprintf("Service of 1000 endpoints, slowest of %d", len(many)), at(many, 100), 300 * time.Millisecond},
	} {
		verdict := "ok"
		if row.got > row.bound {
			verdict, ok = "SHORT", false
		}
		fmt.Printf("%-50s %8s   at most %6s   %s\n", row.name, row.got.Round(100*time.Microsecond), row.bound, verdict)
	}
	fmt.Printf("under load: median %s, p90 %s, slowest %s\n", at(loaded, 50).Round(time.Millisecond), at(loaded, 90).Round(time.Millisecond), at(loaded, 100).Round(time.Millisecond))
	if !ok {
		fmt.Println("Something falls short.")
	}
	return nil
}

// at is a percentile of sorted.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func sorted(list []time.Duration) []time.Duration {
	slices.Sort(list)
	return list
}
