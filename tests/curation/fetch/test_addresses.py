"""Only public addresses may be asked, and those of networks that the recipe names."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.fetch.addresses import is_refused, networks

INSIDE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 127.0.0.1 127.255.0.1 169.254.169.254 172.16.0.1 172.31.255.255
    192.0.0.8 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1:: fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
    not-an-address
""".split()
OUTSIDE = "1.1.1.1 8.8.8.8 172.32.0.1 93.184.216.34 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2a00::1".split()


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_public_is_refused(address):
    assert is_refused(address, ())


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_public_is_not(address):
    assert not is_refused(address, ())


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_a_network_of_the_recipe_is_open_in_every_spelling(address):
    allowed = networks(["127.0.0.0/8"])
    assert not is_refused(address, allowed)
    assert is_refused("10.0.0.1", allowed) and is_refused("::1", allowed)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_however_it_is_wrapped(number):
    plain = ipaddress.IPv4Address(number)
    wrapped = [f"::ffff:{plain}", str(ipaddress.IPv6Address((0x64FF9B << 96) | number))]
    assert {is_refused(each, ()) for each in wrapped} == {is_refused(str(plain), ())}
    private = [*map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8"))]
    assert is_refused(str(plain), ()) or not any(plain in network for network in private)
