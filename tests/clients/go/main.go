// Tests a replica with the client that oapi-codegen generates from openapi.json: register, heartbeat, discover, deregister.
//
//	drive http://127.0.0.1:8080 NAMESPACE
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"rollcall.dev/tests/clients/rollcall"
)

const (
	service = "generated"
	name    = "generated-go"
	address = "10.0.0.7"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: drive URL NAMESPACE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := drive(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "go:", err)
		os.Exit(1)
	}
	fmt.Println("go: registered, renewed, discovered and deregistered")
}

func drive(ctx context.Context, url, namespace string) error {
	client, err := rollcall.NewClientWithResponses(url)
	if err != nil {
		return err
	}
	registration := rollcall.Registration{
		Service:    service,
		Addresses:  &[]string{address},
		Ports:      &[]rollcall.RegistrationPort{{Name: "http", Port: 8080}},
		Attributes: &map[string]string{"team": "blue"},
		Tags:       &[]string{"go"},
	}

	registered, err := client.RegisterInstanceWithResponse(ctx, namespace, name, nil, registration)
	if err != nil {
		return err
	}
	instance := registered.JSON201
	if instance == nil {
		return unexpected("register", registered.Status(), registered.Body)
	}
	if instance.Name != name || instance.Lease.Mode != rollcall.LeaseModeHeartbeat || *instance.Lease.RenewAfterSeconds != 10 {
		return unexpected("register", registered.Status(), registered.Body)
	}

	health, note := rollcall.HealthReportWarning, "the disk is nearly full"
	renewed, err := client.HeartbeatWithResponse(ctx, namespace, name, &rollcall.HeartbeatParams{Uid: &instance.Uid},
		rollcall.Heartbeat{Health: &health, Note: &note})
	if err != nil {
		return err
	}
	if renewed.JSON200 == nil || *renewed.JSON200.ExpiresInMs < 20_000 {
		return unexpected("heartbeat", renewed.Status(), renewed.Body)
	}

	found, err := discover(ctx, client, namespace)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(found, func(it rollcall.Instance) bool { return it.Name == name })
	if at < 0 {
		return fmt.Errorf("discover: %s is not among %v", name, found)
	}
	it := found[at]
	if it.Uid != instance.Uid || (*it.Addresses)[0] != address || it.Ports[0].Port != 8080 || it.Attributes["team"] != "blue" ||
		it.Health != rollcall.HealthWarning || it.Phase != rollcall.PhaseWarning || it.CreatedAt.IsZero() {
		return fmt.Errorf("discover: unexpected instance %+v", it)
	}

	hostname := "db.example.com"
	registration.Hostname = &hostname
	refused, err := client.RegisterInstanceWithResponse(ctx, namespace, name, nil, registration)
	if err != nil {
		return err
	}
	problem := refused.ApplicationproblemJSON422
	if problem == nil || problem.Type != "tag:rollcall.dev,2026:bad-fields" || len(*problem.Errors) != 1 {
		return unexpected("a registration with addresses and hostname", refused.Status(), refused.Body)
	}

	removed, err := client.DeregisterInstanceWithResponse(ctx, namespace, name, &rollcall.DeregisterInstanceParams{Uid: &instance.Uid})
	if err != nil {
		return err
	}
	if removed.StatusCode() != 204 {
		return unexpected("deregister", removed.Status(), removed.Body)
	}
	left, err := discover(ctx, client, namespace)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(left, func(it rollcall.Instance) bool { return it.Name == name }) {
		return fmt.Errorf("discover: %s is still among %v", name, left)
	}
	return nil
}

// discover returns all instances with the tag of this client, in any phase.
func discover(ctx context.Context, client *rollcall.ClientWithResponses, namespace string) ([]rollcall.Instance, error) {
	health, order := rollcall.DiscoverParamsHealthAny, rollcall.DiscoverParamsOrderWeighted
	found, err := client.DiscoverWithResponse(ctx, namespace, service,
		&rollcall.DiscoverParams{Tag: &[]string{"go"}, Health: &health, Order: &order})
	if err != nil {
		return nil, err
	}
	if found.JSON200 == nil || found.JSON200.Service != service {
		return nil, unexpected("discover", found.Status(), found.Body)
	}
	return found.JSON200.Instances, nil
}

func unexpected(call, status string, body []byte) error {
	return fmt.Errorf("%s: unexpected answer %s: %s", call, status, body)
}
