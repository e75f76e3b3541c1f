# SPDX-License-Identifier: Apache-2.0
"""Checks the AWS simulator at AWS_ENDPOINT_URL with botocore. Run by botocore_test.go; each test is a check."""

import base64
import concurrent.futures
import datetime
import json
import os
import time
import unittest

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

IMAGE = "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/image_id"
QUICK = {"Delay": 1, "MaxAttempts": 120}  # waiters ask every 15 seconds by default


def client(service, **config):
    # Older than 1.31, Debian 12's does not know AWS_ENDPOINT_URL.
    return botocore.session.get_session().create_client(
        service, region_name="us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=Config(**config)
    )


def patient(service):
    """A client that outlasts the request buckets."""
    return client(service, retries={"mode": "standard", "total_max_attempts": 20})


class Simulator(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.ec2 = patient("ec2")
        cls.vpc = cls.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        cls.subnet = cls.ec2.create_subnet(VpcId=cls.vpc, CidrBlock="10.0.16.0/20", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
        cls.image = patient("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]

    def launch(self, **more):
        launched = self.ec2.run_instances(
            **{"ImageId": self.image, "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1, "SubnetId": self.subnet, **more}
        )
        ids = [instance["InstanceId"] for instance in launched["Instances"]]
        self.addCleanup(self.terminate, ids)
        return launched, ids

    def terminate(self, ids):
        self.ec2.get_waiter("instance_exists").wait(InstanceIds=ids, WaiterConfig=QUICK)
        self.ec2.terminate_instances(InstanceIds=ids)
        self.ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=QUICK)

    def eventually(self, check, message):
        """Waits for what botocore has no waiter for."""
        deadline = time.monotonic() + 120
        while not check():
            self.assertLess(time.monotonic(), deadline, message)
            time.sleep(0.2)

    def interfaces(self, name, value):
        """Asks by a filter: a new interface is none at first, where its id would be an error."""
        pages = self.ec2.get_paginator("describe_network_interfaces").paginate(Filters=[{"Name": name, "Values": [value]}])
        return pages.build_full_result()["NetworkInterfaces"]

    def refused(self, code, call, *args, **kwargs):
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        self.assertEqual(code, caught.exception.response["Error"]["Code"])
        return caught.exception


class Pages(Simulator):
    def test_every_instance_type_is_on_one_page(self):
        pages = list(self.ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 100}))
        names = [info["InstanceType"] for page in pages for info in page["InstanceTypes"]]
        self.assertGreater(len(names), 1000)
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual((len(names) + 99) // 100, len(pages))
        self.assertNotIn("NextToken", pages[-1])

    def test_a_token_goes_on_where_the_pages_ended(self):
        paginator = self.ec2.get_paginator("describe_instance_type_offerings")
        args = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": ["m5.*"]}]}
        whole = paginator.paginate(**args).build_full_result()["InstanceTypeOfferings"]
        start = paginator.paginate(**args, PaginationConfig={"MaxItems": 13, "PageSize": 5}).build_full_result()
        rest = paginator.paginate(**args, PaginationConfig={"StartingToken": start["NextToken"], "PageSize": 5}).build_full_result()
        self.assertEqual(13, len(start["InstanceTypeOfferings"]))
        self.assertEqual(whole, start["InstanceTypeOfferings"] + rest["InstanceTypeOfferings"])

    def test_interfaces_come_in_pages_of_five(self):
        made = set()
        for _ in range(11):
            made.add(self.ec2.create_network_interface(SubnetId=self.subnet, Description="pages")["NetworkInterface"]["NetworkInterfaceId"])
        # The waiter does not bear an interface that EC2 does not know yet.
        self.eventually(lambda: len(self.interfaces("description", "pages")) == len(made), "interfaces do not appear")
        self.ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=sorted(made), WaiterConfig=QUICK)
        pages = list(
            self.ec2.get_paginator("describe_network_interfaces").paginate(
                Filters=[{"Name": "description", "Values": ["pages"]}], PaginationConfig={"PageSize": 5}
            )
        )
        self.assertEqual([5, 5, 1], [len(page["NetworkInterfaces"]) for page in pages])
        self.assertEqual(made, {i["NetworkInterfaceId"] for page in pages for i in page["NetworkInterfaces"]})
        for interface in made:
            self.ec2.delete_network_interface(NetworkInterfaceId=interface)

    def test_pages_are_neither_too_small_nor_beside_ids(self):
        unchecked = client("ec2", parameter_validation=False)  # botocore knows the smallest page too
        self.refused("InvalidParameterValue", unchecked.describe_network_interfaces, MaxResults=4)
        self.refused("InvalidParameterCombination", self.ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"], MaxResults=5)

    def test_spot_prices_and_products_have_pages(self):
        prices = self.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=["m5.large"], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.datetime.now(datetime.timezone.utc)
        ).build_full_result()["SpotPriceHistory"]
        self.assertEqual({"m5.large"}, {price["InstanceType"] for price in prices})
        self.assertIsInstance(prices[0]["Timestamp"], datetime.datetime)
        filters = [("regionCode", "us-east-1"), ("operatingSystem", "Linux"), ("tenancy", "Shared"), ("preInstalledSw", "NA")]
        pages = list(
            client("pricing").get_paginator("get_products").paginate(
                ServiceCode="AmazonEC2", PaginationConfig={"PageSize": 100},
                Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters],
            )
        )
        self.assertGreater(len(pages), 5)
        self.assertIn("product", json.loads(pages[0]["PriceList"][0]))

    def test_instance_profiles_have_pages(self):
        iam = client("iam")
        for i in range(3):
            iam.create_instance_profile(InstanceProfileName=f"pages-{i}", Path="/pages/")
        pages = list(iam.get_paginator("list_instance_profiles").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2}))
        self.assertEqual([2, 1], [len(page["InstanceProfiles"]) for page in pages])
        self.assertEqual([True, False], [page["IsTruncated"] for page in pages])
        for i in range(3):
            iam.delete_instance_profile(InstanceProfileName=f"pages-{i}")


class Waiters(Simulator):
    def test_an_instance_is_waited_for_from_its_launch_to_its_end(self):
        _, ids = self.launch(MinCount=2, MaxCount=2)
        # At once: EC2 may not know the instances yet, which this waiter takes for "not yet".
        self.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=QUICK)
        self.ec2.get_waiter("instance_status_ok").wait(InstanceIds=ids, WaiterConfig=QUICK)
        self.ec2.terminate_instances(InstanceIds=ids)
        self.ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=QUICK)

    def test_waiting_for_what_cannot_come_ends(self):
        _, ids = self.launch()
        self.terminate(ids)
        with self.assertRaisesRegex(WaiterError, "terminal failure state"):
            self.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=QUICK)

    def test_an_interface_is_available_after_it_was_detached(self):
        _, ids = self.launch()
        self.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=QUICK)
        interface = self.ec2.create_network_interface(SubnetId=self.subnet)["NetworkInterface"]["NetworkInterfaceId"]
        attachment = self.ec2.attach_network_interface(NetworkInterfaceId=interface, InstanceId=ids[0], DeviceIndex=1)["AttachmentId"]
        self.refused("InvalidParameterValue", self.ec2.delete_network_interface, NetworkInterfaceId=interface)
        self.eventually(lambda: self.interfaces("attachment.attachment-id", attachment)[0]["Attachment"]["Status"] == "attached", "not attached")
        self.ec2.detach_network_interface(AttachmentId=attachment)
        self.ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[interface], WaiterConfig=QUICK)
        self.ec2.delete_network_interface(NetworkInterfaceId=interface)

    def test_a_vpc_and_a_subnet_become_available(self):
        self.ec2.get_waiter("vpc_available").wait(VpcIds=[self.vpc], WaiterConfig=QUICK)
        self.ec2.get_waiter("subnet_available").wait(SubnetIds=[self.subnet], WaiterConfig=QUICK)


class Throttling(Simulator):
    """CreateSubnetCidrReservation has the smallest bucket: 5 requests, and 1 a second more."""

    def reserve(self, ec2):
        return ec2.create_subnet_cidr_reservation(SubnetId=self.subnet, Cidr="10.0.20.0/28", ReservationType="prefix", DryRun=True)

    def test_an_empty_bucket_answers_request_limit_exceeded(self):
        once = client("ec2", retries={"total_max_attempts": 1})

        def error(_):
            with self.assertRaises(ClientError) as caught:
                self.reserve(once)
            return caught.exception.response

        with concurrent.futures.ThreadPoolExecutor(10) as threads:
            responses = list(threads.map(error, range(60)))
        throttled = [r for r in responses if r["Error"]["Code"] == "RequestLimitExceeded"]
        self.assertTrue(throttled)
        self.assertLessEqual({r["Error"]["Code"] for r in responses}, {"DryRunOperation", "RequestLimitExceeded"})
        self.assertEqual("Request limit exceeded.", throttled[0]["Error"]["Message"])
        self.assertEqual(503, throttled[0]["ResponseMetadata"]["HTTPStatusCode"])

    def test_a_throttled_call_is_tried_again_in_every_mode(self):
        for mode in "legacy", "standard", "adaptive":
            with self.subTest(mode):
                ec2 = client("ec2", retries={"mode": mode, "total_max_attempts": 20}, max_pool_connections=20)

                def error(_):
                    with self.assertRaises(ClientError) as caught:
                        self.reserve(ec2)
                    return caught.exception.response

                with concurrent.futures.ThreadPoolExecutor(12) as threads:
                    responses = list(threads.map(error, range(12)))
                self.assertEqual({"DryRunOperation"}, {r["Error"]["Code"] for r in responses})
                self.assertGreater(sum(r["ResponseMetadata"]["RetryAttempts"] for r in responses), 0)


class Idempotency(Simulator):
    def test_a_token_launches_once(self):
        first, ids = self.launch(ClientToken="launch-once")
        again, _ = self.launch(ClientToken="launch-once")
        self.assertEqual(first["ReservationId"], again["ReservationId"])
        self.assertEqual(ids, [instance["InstanceId"] for instance in again["Instances"]])
        self.refused("IdempotentParameterMismatch", self.launch, ClientToken="launch-once", InstanceType="m5.xlarge")

    def test_a_token_of_a_terminated_instance_launches_nothing(self):
        _, ids = self.launch(ClientToken="terminated")
        self.terminate(ids)
        self.refused("IdempotentInstanceTerminated", self.launch, ClientToken="terminated")

    def test_calls_without_a_token_get_one_each(self):
        tokens = []
        ec2 = client("ec2")
        ec2.meta.events.register("before-call.ec2.CreateNetworkInterface", lambda params, **_: tokens.append(params["body"].get("ClientToken")))
        made = [ec2.create_network_interface(SubnetId=self.subnet)["NetworkInterface"]["NetworkInterfaceId"] for _ in range(2)]
        self.assertEqual(2, len(set(made)))
        self.assertEqual(2, len(set(tokens)))
        self.assertNotIn(None, tokens)

    def test_a_token_makes_one_interface(self):
        args = {"SubnetId": self.subnet, "ClientToken": "interface-once", "Ipv4PrefixCount": 1}
        first = self.ec2.create_network_interface(**args)["NetworkInterface"]
        self.assertEqual(first["NetworkInterfaceId"], self.ec2.create_network_interface(**args)["NetworkInterface"]["NetworkInterfaceId"])
        self.refused("IdempotentParameterMismatch", self.ec2.create_network_interface, **{**args, "Ipv4PrefixCount": 2})


class Replies(Simulator):
    def test_an_error_has_a_code_a_message_a_status_and_the_request(self):
        response = self.refused("InvalidSubnetID.NotFound", self.ec2.describe_subnets, SubnetIds=["subnet-0123456789abcdef0"]).response
        self.assertEqual("The subnet ID 'subnet-0123456789abcdef0' does not exist", response["Error"]["Message"])
        self.assertEqual(400, response["ResponseMetadata"]["HTTPStatusCode"])
        self.assertRegex(response["ResponseMetadata"]["RequestId"], "^[0-9a-f-]{36}$")
        self.assertEqual(0, response["ResponseMetadata"]["RetryAttempts"])

    def test_other_services_errors_are_of_their_types(self):
        ssm, iam, eks, sqs = client("ssm"), client("iam"), client("eks"), client("sqs")
        with self.assertRaises(ssm.exceptions.ParameterNotFound):
            ssm.get_parameter(Name="/none")
        with self.assertRaises(iam.exceptions.NoSuchEntityException) as caught:
            iam.get_instance_profile(InstanceProfileName="none")
        self.assertEqual(404, caught.exception.response["ResponseMetadata"]["HTTPStatusCode"])
        with self.assertRaises(eks.exceptions.ResourceNotFoundException):
            eks.describe_cluster(name="none")
        with self.assertRaises(sqs.exceptions.QueueDoesNotExist):
            sqs.get_queue_url(QueueName="none")

    def test_a_dry_run_is_precondition_failed(self):
        error = self.refused("DryRunOperation", self.ec2.create_vpc, CidrBlock="10.1.0.0/16", DryRun=True)
        self.assertEqual(412, error.response["ResponseMetadata"]["HTTPStatusCode"])

    def test_every_reply_names_its_request(self):
        metadata = [self.ec2.describe_vpcs()["ResponseMetadata"] for _ in range(2)]
        self.assertEqual([200, 200], [m["HTTPStatusCode"] for m in metadata])
        self.assertEqual(2, len({m["RequestId"] for m in metadata}))
        self.assertEqual(metadata[0]["RequestId"], metadata[0]["HTTPHeaders"]["x-amzn-requestid"])
        for reply in patient("sts").get_caller_identity(), patient("ssm").get_parameter(Name=IMAGE), patient("iam").list_instance_profiles():
            self.assertIn("RequestId", reply["ResponseMetadata"])

    def test_times_are_times(self):
        before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)  # EC2's are whole seconds
        launched, _ = self.launch()
        after = datetime.datetime.now(datetime.timezone.utc)
        instance = launched["Instances"][0]
        self.assertTrue(before <= instance["LaunchTime"] <= after)
        self.assertTrue(before <= instance["NetworkInterfaces"][0]["Attachment"]["AttachTime"] <= after)
        self.assertIsInstance(patient("ssm").get_parameter(Name=IMAGE)["Parameter"]["LastModifiedDate"], datetime.datetime)
        iam = client("iam")
        made = iam.create_instance_profile(InstanceProfileName="times")["InstanceProfile"]["CreateDate"]
        self.assertTrue(before <= made <= datetime.datetime.now(datetime.timezone.utc))
        iam.delete_instance_profile(InstanceProfileName="times")

    def test_text_comes_back_as_it_was_given(self):
        text = "<&>\"' ü 漢\tend"
        data = b"#!/bin/sh\n" + bytes(range(256))
        # botocore encodes user data of run_instances itself.
        launched, ids = self.launch(UserData=data, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "text", "Value": text}]}])
        self.assertEqual([{"Key": "text", "Value": text}], launched["Instances"][0]["Tags"])
        self.ec2.get_waiter("instance_exists").wait(InstanceIds=ids, WaiterConfig=QUICK)
        kept = self.ec2.describe_instance_attribute(InstanceId=ids[0], Attribute="userData")["UserData"]["Value"]
        self.assertEqual(data, base64.b64decode(kept))
        found = self.ec2.describe_instances(Filters=[{"Name": "tag:text", "Values": [text]}])
        self.assertEqual(ids, [i["InstanceId"] for r in found["Reservations"] for i in r["Instances"]])

    def test_lists_that_ec2_always_writes_are_there(self):
        groups = self.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["SecurityGroups"]
        egress = groups[0]["IpPermissionsEgress"][0]
        self.assertEqual([], egress["UserIdGroupPairs"])
        self.assertEqual("0.0.0.0/0", egress["IpRanges"][0]["CidrIp"])
        launched, ids = self.launch()
        self.assertEqual([], launched["Instances"][0]["BlockDeviceMappings"])
        self.assertNotIn("Tags", launched["Instances"][0])
        self.terminate(ids)
        ended = self.ec2.describe_instances(InstanceIds=ids)["Reservations"][0]["Instances"][0]
        self.assertEqual([], ended["NetworkInterfaces"])

    def test_messages_go_through_a_queue(self):
        sqs = client("sqs")
        queue = sqs.create_queue(QueueName="messages")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="ü <&>")  # botocore compares the digest
        message = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5, AttributeNames=["All"])["Messages"][0]
        self.assertEqual("ü <&>", message["Body"])
        self.assertIn("SentTimestamp", message["Attributes"])
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        self.assertNotIn("Messages", sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0))


if __name__ == "__main__":
    unittest.main(verbosity=2)
