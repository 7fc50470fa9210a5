package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The accounts of the chart, and the one that Agones gives to rooms.
var (
	directorAccount = account{namespace, "guildhall-director"}
	accounts        = []account{
		{namespace, "guildhall-frontend"}, directorAccount, {namespace, "guildhall-matchfunction"}, {roomsNamespace, "agones-sdk"},
	}
)

// allNamespaces are those in which accounts could have rights; a right in the whole cluster shows in each.
var allNamespaces = []string{namespace, roomsNamespace, elsewhere, agonesNamespace, "default", "kube-system"}

// anybodys are the rights that Kubernetes gives to every account: to ask about itself, and to look at what the API has.
var anybodys = []string{
	"create authentication.k8s.io/selfsubjectreviews",
	"create authorization.k8s.io/selfsubjectaccessreviews",
	"create authorization.k8s.io/selfsubjectrulesreviews",
	"get /.well-known/openid-configuration",
	"get /.well-known/openid-configuration/",
	"get /api", "get /api/*", "get /apis", "get /apis/*",
	"get /healthz", "get /livez",
	"get /openapi", "get /openapi/*",
	"get /openid/v1/jwks", "get /openid/v1/jwks/",
	"get /readyz", "get /version", "get /version/",
}

// theRight is what directors need that allocate by the Kubernetes API.
const theRight = "create allocation.agones.dev/gameserverallocations"

// Every right of every account in every namespace, as the API server itself sums them up: in every installation each has what
// anybody has, and directors that allocate by the Kubernetes API one more, where the Fleet is.
func TestAccountsHaveNoOtherRights(t *testing.T) {
	everyInstallation(t, func(t *testing.T, a *api, objects []*unstructured.Unstructured) {
		a.install(t, objects)
		for _, who := range accounts {
			own, err := a.as(a.ctx, a.token(t, who, nil))
			if err != nil {
				t.Fatal(err)
			}
			for _, where := range allNamespaces {
				want := slices.Clone(anybodys)
				if who == directorAccount && where == roomsNamespace && asksKubernetes(t, objects) {
					want = append(want, theRight)
				}
				slices.Sort(want)
				got, err := own.rights(where)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s in %s may\n%s\nwant\n%s", who, where, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
	})
}

// asksKubernetes says whether directors allocate by the Kubernetes API.
func asksKubernetes(t *testing.T, objects []*unstructured.Unstructured) bool {
	t.Helper()
	for _, pod := range pods(t, objects) {
		containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
		if text := fmt.Sprint(containers); strings.Contains(text, "name:GUILDHALL_AGONES_DOOR value:kubernetes") {
			return true
		}
	}
	return false
}

// rights gives all that whoever asks may do in a namespace, as "verb group/resource" or "verb path".
func (a *api) rights(where string) ([]string, error) {
	review, err := a.typed.AuthorizationV1().SelfSubjectRulesReviews().Create(a.ctx, &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: where},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if review.Status.Incomplete {
		return nil, fmt.Errorf("the API server does not know all rights: %s", review.Status.EvaluationError)
	}
	var all []string
	for _, rule := range review.Status.ResourceRules {
		for _, verb := range rule.Verbs {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s/%s %s", verb, group, resource, strings.Join(rule.ResourceNames, ","))))
				}
			}
		}
	}
	for _, rule := range review.Status.NonResourceRules {
		for _, verb := range rule.Verbs {
			for _, path := range rule.NonResourceURLs {
				all = append(all, verb+" "+path)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// question is one of "kubectl auth can-i VERB RESOURCE -n NAMESPACE".
type question struct{ verb, group, resource, namespace string }

// questions are what somebody with a stolen token would try first.
var questions = []question{
	{"get", "", "secrets", namespace}, {"list", "", "secrets", roomsNamespace}, {"list", "", "secrets", ""},
	{"create", "", "pods", namespace}, {"create", "", "pods", roomsNamespace}, {"create", "", "pods/exec", roomsNamespace},
	{"get", "", "pods/log", namespace}, {"delete", "", "pods", roomsNamespace}, {"list", "", "nodes", ""},
	{"create", "", "serviceaccounts/token", namespace}, {"impersonate", "", "serviceaccounts", namespace},
	{"get", "", "configmaps", namespace}, {"create", "", "events", roomsNamespace},
	{"get", "apps", "deployments", namespace}, {"patch", "apps", "deployments", namespace},
	{"get", "agones.dev", "gameservers", roomsNamespace}, {"list", "agones.dev", "gameservers", roomsNamespace},
	{"update", "agones.dev", "gameservers", roomsNamespace}, {"delete", "agones.dev", "gameservers", roomsNamespace},
	{"get", "agones.dev", "fleets", roomsNamespace}, {"patch", "agones.dev", "fleets", roomsNamespace},
	{"update", "agones.dev", "fleets/scale", roomsNamespace},
	{"delete", "autoscaling.agones.dev", "fleetautoscalers", roomsNamespace},
	{"list", allocationGroup, "gameserverallocations", roomsNamespace}, {"delete", allocationGroup, "gameserverallocations", roomsNamespace},
	{"*", allocationGroup, "*", roomsNamespace},
	{"create", allocationGroup, "gameserverallocations", namespace}, {"create", allocationGroup, "gameserverallocations", elsewhere},
	{"create", allocationGroup, "gameserverallocations", ""},
	{"create", "rbac.authorization.k8s.io", "rolebindings", roomsNamespace}, {"escalate", "rbac.authorization.k8s.io", "roles", roomsNamespace},
	{"bind", "rbac.authorization.k8s.io", "clusterroles", ""}, {"*", "*", "*", ""},
}

// What the sum says, the questions one by one say too.
func TestAccountsCannot(t *testing.T) {
	a := setup(t)
	a.install(t, installation(t, "kubernetes"))
	for _, who := range accounts {
		own, err := a.as(a.ctx, a.token(t, who, nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range questions {
			if allowed, err := own.can(q); err != nil || allowed {
				t.Errorf("%s can %v: %t, %v", who, q, allowed, err)
			}
		}
		allocates := question{"create", allocationGroup, "gameserverallocations", roomsNamespace}
		if allowed, err := own.can(allocates); err != nil || allowed != (who == directorAccount) {
			t.Errorf("%s can %v: %t, %v", who, allocates, allowed, err)
		}
	}
}

func (a *api) can(q question) (bool, error) {
	resource, subresource, _ := strings.Cut(q.resource, "/")
	review, err := a.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(a.ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: q.verb, Group: q.group, Resource: resource, Subresource: subresource, Namespace: q.namespace,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// And what is tried is refused.
func TestWhatADirectorMustNotDoIsRefused(t *testing.T) {
	a := setup(t)
	a.install(t, installation(t, "kubernetes"))
	own, err := a.as(a.ctx, a.token(t, directorAccount, nil))
	if err != nil {
		t.Fatal(err)
	}
	gameServers := own.dynamic.Resource(schema.GroupVersionResource{Group: "agones.dev", Version: "v1", Resource: "gameservers"}).Namespace(roomsNamespace)
	for what, try := range map[string]func() error{
		"list secrets": func() error {
			_, err := own.typed.CoreV1().Secrets(namespace).List(own.ctx, metav1.ListOptions{})
			return err
		},
		"create a pod": func() error {
			_, err := own.typed.CoreV1().Pods(roomsNamespace).Create(own.ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
			return err
		},
		"delete a game server": func() error { return gameServers.Delete(own.ctx, "x", metav1.DeleteOptions{}) },
		"watch game servers": func() error {
			_, err := gameServers.Watch(own.ctx, metav1.ListOptions{})
			return err
		},
		"have a token made": func() error {
			_, err := own.typed.CoreV1().ServiceAccounts(namespace).CreateToken(own.ctx, "guildhall-frontend", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"allocate elsewhere": func() error { return own.allocate(elsewhere) },
		"allocate at home":   func() error { return own.allocate(namespace) },
	} {
		if err := try(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it forbidden", what, err)
		}
	}
}

// allocate asks for any game server.
func (a *api) allocate(where string) error {
	o := makeObject(allocationGroup+"/v1", "GameServerAllocation", where, "", map[string]any{"spec": map[string]any{}})
	unstructured.RemoveNestedField(o.Object, "metadata", "name")
	resource := schema.GroupVersionResource{Group: allocationGroup, Version: "v1", Resource: "gameserverallocations"}
	_, err := a.dynamic.Resource(resource).Namespace(where).Create(a.ctx, o, metav1.CreateOptions{})
	return err
}

// A token that is nobody's, for somebody else, expired, or of an account or an object that is gone, is refused: 401.
func TestTokensThatAreRefused(t *testing.T) {
	a := setup(t)
	a.install(t, installation(t, "kubernetes"))
	secrets := a.typed.CoreV1().Secrets(namespace)
	bound, err := secrets.Create(a.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "for-the-token"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ofSecret := a.token(t, directorAccount, func(spec *authenticationv1.TokenRequestSpec) {
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: bound.Name, UID: bound.UID}
	})
	if err := a.tries(ofSecret); err != nil {
		t.Fatalf("a token that is bound to a Secret: %v", err)
	}
	if err := secrets.Delete(a.ctx, bound.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	good := a.token(t, directorAccount, nil)
	for what, token := range map[string]string{
		"nobody's": "not a token",
		"for somebody else": a.token(t, directorAccount, func(spec *authenticationv1.TokenRequestSpec) {
			spec.Audiences = []string{"https://another.example.com"}
		}),
		"expired":                   a.sign(t, directorAccount, -time.Second),
		"spoiled":                   good[:len(good)-4] + "AAAA",
		"of an object that is gone": ofSecret,
	} {
		// The API server believes for some seconds what it has found out about a token.
		err := eventually(a.ctx, func() error {
			if err := a.tries(token); !apierrors.IsUnauthorized(err) {
				return fmt.Errorf("%w, want it unauthorized", err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("a token that is %s: %v", what, err)
		}
	}
	if err := a.tries(good); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

// tries asks something that every account may ask.
func (c *cluster) tries(token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	own, err := c.as(ctx, token)
	if err != nil {
		return err
	}
	_, err = own.rights(roomsNamespace)
	return err
}

// sign makes a token as the API server does, but for any time: by TokenRequest ten minutes are the least.
func (a *api) sign(t *testing.T, of account, lifetime time.Duration) string {
	t.Helper()
	known, err := a.typed.CoreV1().ServiceAccounts(of.namespace).Get(a.ctx, of.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(a.accounts)
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(lifetime)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": issuer, "aud": []string{issuer}, "sub": of.String(),
		"iat": expires.Add(-time.Minute).Unix(), "nbf": expires.Add(-time.Minute).Unix(), "exp": expires.Unix(),
		"kubernetes.io": map[string]any{
			"namespace": of.namespace, "serviceaccount": map[string]any{"name": of.name, "uid": string(known.UID)},
		},
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
