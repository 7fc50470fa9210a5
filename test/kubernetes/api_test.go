package kubernetes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// api is the API as somebody sees it.
type api struct {
	*cluster
	ctx     context.Context
	typed   *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
	heard   *warnings
}

// warnings collects what the API server warns of: a field that is deprecated, a pod that would not be admitted.
type warnings struct {
	mu    sync.Mutex
	texts []string // guarded by mu
}

var _ rest.WarningHandler = (*warnings)(nil)

// HandleWarningHeader takes one.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// take gives what has been heard since the last time.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

// setup gives the administrator's view.
func setup(t *testing.T) *api {
	t.Helper()
	c := theCluster(t)
	a, err := c.as(bounded(t), adminToken)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// as gives the view of whoever has a token.
func (c *cluster) as(ctx context.Context, token string) (*api, error) {
	a := &api{cluster: c, ctx: ctx, heard: &warnings{}}
	config := c.config(token)
	config.WarningHandler = a.heard
	var err error
	if a.typed, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	a.dynamic, err = dynamic.NewForConfig(config)
	return a, err
}

// resource gives where objects of a kind are.
func (a *api) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	groups, err := restmapper.GetAPIGroupResources(a.typed.Discovery())
	if err != nil {
		return nil, err
	}
	kind := o.GroupVersionKind()
	mapping, err := restmapper.NewDiscoveryRESTMapper(groups).RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return a.dynamic.Resource(mapping.Resource), nil
	}
	return a.dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace()), nil
}

// apply applies an object, strictly: a field that the kind does not have, or that stands twice, is an error.
func (a *api) apply(o *unstructured.Unstructured, dryRun ...string) (*unstructured.Unstructured, error) {
	resource, err := a.resource(o)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return resource.Patch(a.ctx, o.GetName(), types.ApplyPatchType, raw, metav1.PatchOptions{
		FieldManager: "helm", FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun,
	})
}

// remove deletes an object; one that is not there is as good.
func (a *api) remove(o *unstructured.Unstructured) error {
	resource, err := a.resource(o)
	if err != nil {
		return err
	}
	if err := resource.Delete(a.ctx, o.GetName(), metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// account is the service account of a pod.
type account struct{ namespace, name string }

func (s account) String() string { return "system:serviceaccount:" + s.namespace + ":" + s.name }

// token has a token made for an account, as the kubelet has for a pod.
func (a *api) token(t *testing.T, of account, change func(*authenticationv1.TokenRequestSpec)) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if change != nil {
		change(&request.Spec)
	}
	made, err := a.typed.CoreV1().ServiceAccounts(of.namespace).CreateToken(a.ctx, of.name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Status.Token
}

// Namespaces of the tests: those of the chart, and one with which Guildhall has nothing to do.
const (
	namespace      = "guildhall"
	roomsNamespace = "guildhall-rooms"
	elsewhere      = "elsewhere"
)

// furnish makes what is in a cluster before Guildhall comes, and waits until it is there.
func (c *cluster) furnish(ctx context.Context) error {
	a, err := c.as(ctx, adminToken)
	if err != nil {
		return err
	}
	objects := []*unstructured.Unstructured{
		// As install/README.md labels them.
		makeNamespace(namespace, map[string]any{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}),
		makeNamespace(roomsNamespace, map[string]any{"pod-security.kubernetes.io/warn": "restricted"}),
		makeNamespace(elsewhere, nil),
		makeNamespace(agonesNamespace, nil),
		// Agones' chart makes it, in each namespace of game servers.
		makeObject("v1", "ServiceAccount", roomsNamespace, "agones-sdk", nil),
		makeObject("v1", "ServiceAccount", roomsNamespace, "rooms", nil), // testdata/everything.yaml names it
		makeObject("v1", "Service", agonesNamespace, extensionService, map[string]any{
			"spec": map[string]any{"type": "ExternalName", "externalName": "localhost"},
		}),
		c.extension.registration(),
	}
	// A controller makes them in a cluster; a pod that names no account has this one.
	for _, where := range []string{namespace, roomsNamespace, elsewhere} {
		objects = append(objects, makeObject("v1", "ServiceAccount", where, "default", nil))
	}
	definitions, err := allDefinitions()
	if err != nil {
		return err
	}
	for _, o := range append(objects, definitions...) {
		if _, err := a.apply(o); err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return errors.Join(a.served(definitions), eventually(ctx, func() error {
		_, err := a.typed.Discovery().ServerResourcesForGroupVersion(allocationGroup + "/v1")
		return err
	}))
}

// registration tells the API server who serves Agones' part.
func (e *extension) registration() *unstructured.Unstructured {
	return makeObject("apiregistration.k8s.io/v1", "APIService", "", "v1."+allocationGroup, map[string]any{
		"spec": map[string]any{
			"group": allocationGroup, "version": "v1", "groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
			"service":  map[string]any{"namespace": agonesNamespace, "name": extensionService, "port": e.port()},
			"caBundle": base64.StdEncoding.EncodeToString(e.authority.PEM()),
		},
	})
}

func makeNamespace(name string, labels map[string]any) *unstructured.Unstructured {
	o := makeObject("v1", "Namespace", "", name, nil)
	if labels != nil {
		_ = unstructured.SetNestedMap(o.Object, labels, "metadata", "labels") // metadata is a map
	}
	return o
}

func makeObject(version, kind, namespace, name string, more map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	for key, value := range more {
		o.Object[key] = value
	}
	o.SetAPIVersion(version)
	o.SetKind(kind)
	o.SetName(name)
	if namespace != "" {
		o.SetNamespace(namespace)
	}
	return o
}
